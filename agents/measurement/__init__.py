"""Measurements seen from the agent: child processes, the device meanwhile, verdicts."""
