"""One recipe on its way through a search."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from searcher.jobs.build import BuildResult
from searcher.ledger.tables.search_state import FileRef, TrainedState
from searcher.spec.recipe import Recipe
from searcher.statistics.measured import FileMeasurement

SLACK, ROUGH_SLACK = 0.03, 0.25
"""By how much the latency of a trained graph may lie below what its untrained one showed: where
quiet blocks were measured, and where a busy machine gave a rough ratio only."""


@dataclass
class Candidate:
    """``stage`` is what it waits for: compressing, measuring, waiting, short, full or measuring
    again. ``trial`` is its id in the ledger, ``number`` that in the study."""

    trial: int
    number: int
    recipe: Recipe
    stage: str = "compressing"
    build: BuildResult | None = None
    sha256: str | None = None
    measurement: int | None = None
    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Sequence[float]] = field(default_factory=dict)
    attempt: int = 1
    looks: tuple[FileMeasurement, ...] = ()
    since_s: float = 0.0
    slack: float = SLACK

    def built(self, build: BuildResult) -> None:
        """Its newest file."""
        self.build, self.sha256 = build, build.sha256
        self.values |= {"file_bytes": build.file_bytes}

    @property
    def file(self) -> FileRef:
        """Its newest file. Raises ValueError before there is one."""
        if self.build is None:
            raise ValueError(f"trial {self.trial} has no file yet")
        return FileRef(self.build.sha256, self.build.file_bytes)

    @property
    def kept(self) -> TrainedState:
        """What the search state keeps of one that is trained."""
        return TrainedState(dict(self.values), dict(self.intervals), self.slack, self.measurement)

    def take_up(self, kept: TrainedState) -> None:
        """What an earlier search knew of it."""
        self.values, self.intervals = dict(kept.values), dict(kept.intervals)
        self.slack, self.measurement = kept.slack, kept.measurement

    @property
    def optimistic_values(self) -> dict[str, float]:
        """Its values, with the lowest latency that a second measurement may show."""
        return {**self.values, "latency_s": self.values["latency_s"] * (1 - self.slack)}
