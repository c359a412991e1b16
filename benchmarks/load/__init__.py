"""Load benchmark of the coordinator: ``python -m benchmarks.load``."""
