"""Fidelities: how long a recipe is trained."""

TRAINED = ("short", "full", "extended")
"""Each continues the training of the one before. Every task has the first two. ``extended`` is for
candidates near the front, in tasks that define epochs for it."""
FIDELITIES = ("untrained", *TRAINED)
