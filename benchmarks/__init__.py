"""Benchmarks of the whole: each module is one command that prints tables; see its docstring."""
