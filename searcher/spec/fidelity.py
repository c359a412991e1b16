"""How far a recipe is trained."""

TRAINED = ("short", "full", "extended")
"""Each goes on from the one before. Every task knows the first two; the last is for what is good
enough for the front, and for tasks that give epochs for it."""
FIDELITIES = ("untrained", *TRAINED)
