"""Objectives of a campaign: the axes of a front, with direction and unit."""

from dataclasses import dataclass
from typing import Literal

from searcher.errors import UserError, nearest

Direction = Literal["minimize", "maximize"]

UNITS = {
    "accuracy": "share", "accuracy_test": "share", "accuracy_drop": "share", "latency_s": "s",
    "latency_p99_s": "s", "throughput_per_s": "1/s", "file_bytes": "byte",
    "transfer_bytes": "byte", "memory_bytes": "byte", "energy_j": "J", "power_w": "W",
}


@dataclass(frozen=True)
class Objective:
    """One axis of a front."""

    name: str
    direction: Direction

    @property
    def unit(self) -> str:
        return UNITS[self.name]

    @classmethod
    def of(cls, name: str, direction: str) -> "Objective":
        """Raises UserError for an unknown name or direction."""
        if name not in UNITS:
            raise UserError(f"Unknown objective {name!r}. {nearest(name, UNITS)}")
        if direction not in ("minimize", "maximize"):
            raise UserError(f"Objective {name} = {direction!r} must be minimize or maximize.")
        return cls(name, "minimize" if direction == "minimize" else "maximize")


ENERGY_OBJECTIVES = frozenset({"energy_j", "power_w"})
"""Objectives that only a plan with ``energy_s`` > 0 measures."""
