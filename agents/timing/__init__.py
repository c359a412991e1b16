"""Timing and its statistics: pure functions of clocks, calls and numbers."""
