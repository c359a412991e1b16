"""The operating system as the agent sees it: files, /proc and /sys, processes that end together."""
