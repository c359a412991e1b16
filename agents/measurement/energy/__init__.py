"""Energy of one inference from polled meters."""
