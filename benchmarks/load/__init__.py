"""How much one coordinator carries: ``python -m benchmarks.load``."""
