"""Fidelities: what is done to win back the accuracy that a recipe costs."""

UNTRAINED = "untrained"
REPAIRED = "repaired"
"""No training, no labels: least squares and GPTQ on calibration samples. Training continues from
it."""
TRAINED = ("short", "full", "extended")
"""Each continues the training of the one before. Every task has the first two. ``extended`` is for
candidates near the front, in tasks that define epochs for it."""
FIDELITIES = (UNTRAINED, REPAIRED, *TRAINED)
