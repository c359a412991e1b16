"""How far a build goes: without training, repaired without labels, or trained so many epochs."""

from collections.abc import Mapping
from dataclasses import dataclass

from searcher.spec.fidelity import REPAIRED, TRAINED, UNTRAINED

REPAIR_VERSION = 1
"""Raised when the same repair gives other weights."""


@dataclass(frozen=True)
class Schedule:
    """A fidelity, whether weights are repaired before any training, and the epochs of each
    fidelity where they are not the task's own."""

    fidelity: str
    repair: bool = False
    epochs: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, fidelity: str, repair: bool = False,
           epochs: Mapping[str, int] | None = None) -> "Schedule":
        """``repaired`` implies repair, ``untrained`` excludes it; epochs of later fidelities do
        not matter."""
        done = TRAINED[: TRAINED.index(fidelity) + 1] if fidelity in TRAINED else ()
        if fidelity == UNTRAINED and repair:
            fidelity = REPAIRED
        return cls(fidelity, repair or fidelity == REPAIRED,
                   tuple((name, (epochs or {})[name]) for name in done if name in (epochs or {})))

    @property
    def trains(self) -> bool:
        return self.fidelity in TRAINED

    @property
    def without_training(self) -> "Schedule":
        return Schedule(REPAIRED if self.repair else UNTRAINED, self.repair)

    def at(self, fidelity: str) -> "Schedule":
        """This schedule until an earlier fidelity."""
        return self.of(fidelity, self.repair, dict(self.epochs))

    def document(self) -> list[object]:
        """What a build key holds beside the fidelity; empty for a plain one."""
        extra: dict[str, object] = {}
        if self.repair:
            extra["repair"] = REPAIR_VERSION
        if self.epochs:
            extra["epochs"] = dict(self.epochs)
        return [extra] if extra else []
