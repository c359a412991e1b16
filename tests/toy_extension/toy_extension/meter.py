"""A meter: the memory's under another name."""

from agents.meters.memory import MemoryMeter


class ToyMeter(MemoryMeter):
    name = "toy_meter"
