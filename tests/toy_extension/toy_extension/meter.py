"""A meter that always reads the same."""

from agents.meters.base import Meter, Reading


class ToyMeter(Meter):
    name = "toy_meter"

    def problem(self):
        return None

    def readings(self):
        return [Reading("toy_bytes", 7.0, "bytes", "toy")]
