"""A candidate: one recipe with its build and figures during a search."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from searcher.jobs.build import BuildResult
from searcher.ledger.tables.search_state import FileRef, TrainedState
from searcher.spec.fidelity import REPAIRED, UNTRAINED
from searcher.spec.objectives import DROP
from searcher.spec.recipe import Recipe
from searcher.statistics.measured import FileMeasurement

SLACK, ROUGH_SLACK = 0.03, 0.25
"""Possible relative decrease of latency between the untrained and the trained graph: for a
measurement in quiet blocks, and for the rough ratio from a busy machine."""


@dataclass(frozen=True)
class Repaired:
    """The file of a candidate before training, with its figures."""

    build: BuildResult
    figures: TrainedState


@dataclass
class Candidate:
    """``stage`` is the current step: compressing, measuring, waiting, short, full or measuring
    again. ``trial`` is the id in the ledger, ``number`` the number in the Optuna study."""

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
    valid_measurements: tuple[FileMeasurement, ...] = ()
    since_s: float = 0.0
    slack: float = SLACK
    fidelity: str = UNTRAINED
    """That of the newest quality."""
    took_s: float = 0.0
    """Builder's seconds before the first measurement."""
    repaired: "Repaired | None" = None

    def set_build(self, build: BuildResult) -> None:
        """Set the newest file."""
        self.build, self.sha256 = build, build.sha256
        self.values |= {"file_bytes": build.file_bytes}

    @property
    def file(self) -> FileRef:
        """The newest file. Raises ValueError before the first build."""
        if self.build is None:
            raise ValueError(f"trial {self.trial} has no file yet")
        return FileRef(self.build.sha256, self.build.file_bytes)

    @property
    def trained_state(self) -> TrainedState:
        """The figures that the search state stores for a trained candidate."""
        return TrainedState(dict(self.values), dict(self.intervals), self.slack, self.measurement)

    def restore(self, state: TrainedState) -> None:
        """Restore the figures that an earlier search process stored."""
        self.values, self.intervals = dict(state.values), dict(state.intervals)
        self.slack, self.measurement = state.slack, state.measurement

    def keep_repaired(self) -> None:
        """Keep the present file and figures, which training may not improve."""
        if self.build is not None and DROP in self.values:
            self.repaired = Repaired(self.build, self.trained_state)

    @property
    def is_worse_than_repaired(self) -> bool:
        return self.repaired is not None and (
            self.values[DROP] > self.repaired.figures.values[DROP])

    def return_to_repaired(self) -> None:
        """Use the file and figures from before training again. Raises ValueError without them."""
        if self.repaired is None:
            raise ValueError(f"trial {self.trial} was not repaired")
        self.set_build(self.repaired.build)
        self.restore(self.repaired.figures)
        self.fidelity = REPAIRED

    @property
    def optimistic_values(self) -> dict[str, float]:
        """The values, with the lowest latency that the measurement after training may show."""
        return {**self.values, "latency_s": self.values["latency_s"] * (1 - self.slack)}
