"""The agent's side of a measurement: child processes, monitoring of the device, verdicts."""
