"""The Pareto front of a campaign on one device, as commands, ``front.json`` and the report read it.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from searcher.results.failures import CandidateFailure
from searcher.spec.objectives import Objective, Quality
from searcher.spec.recipe import Recipe


@dataclass(frozen=True)
class FrontPoint:
    """The baseline or a member of the front; ``artifact`` is its file, which may be missing."""

    candidate: str
    recipe: Recipe
    values: Mapping[str, float]
    intervals: Mapping[str, Sequence[float]]
    artifact: Path
    sha256: str

    def as_document(self) -> dict[str, object]:
        return {"candidate": self.candidate, "recipe": self.recipe.as_list(),
                "values": dict(self.values),
                "intervals": {name: list(ends) for name, ends in self.intervals.items()},
                "artifact": str(self.artifact), "sha256": self.sha256}


@dataclass(frozen=True)
class Front:
    """``points`` by the first cost. ``reference_point`` of the hypervolume has the order of
    ``objectives``. ``quality`` is what the task's metric judges, at ``quality_place``.
    ``failures`` has every candidate of the campaign that failed."""

    campaign: str
    device: str
    objectives: tuple[Objective, ...]
    quality: Quality
    baseline: FrontPoint
    points: tuple[FrontPoint, ...]
    hypervolume: float
    reference_point: tuple[float, ...]
    quality_place: str
    measured_with: str
    failures: tuple[CandidateFailure, ...] = ()

    @property
    def files(self) -> tuple[FrontPoint, ...]:
        """The baseline and the points."""
        return (self.baseline, *self.points)

    def has(self, candidate: str) -> bool:
        return any(point.candidate == candidate for point in self.points)

    def as_document(self) -> dict[str, object]:
        """Plain JSON: ``front.json``, and what ``fleetfront front --format json`` prints."""
        return {
            "campaign": self.campaign, "device": self.device,
            "metric": self.quality.metric,
            "objectives": [o.as_document() for o in self.objectives],
            "baseline": self.baseline.as_document(),
            "points": [point.as_document() for point in self.points],
            "hypervolume": self.hypervolume, "reference_point": list(self.reference_point),
            "quality_place": self.quality_place, "measured_with": self.measured_with,
            "failures": [failure.as_document() for failure in self.failures],
        }


def missing(points: Iterable[FrontPoint]) -> dict[str, str]:
    """Candidate and sha256 of the points whose file is not on the disk."""
    return {p.candidate: p.sha256 for p in points if not p.artifact.is_file()}


def front_rows(front: Front) -> list[dict[str, object]]:
    """One flat row per point, the baseline first."""
    return [{"candidate": p.candidate, "recipe": str(p.recipe), **p.values, "sha256": p.sha256}
            for p in front.files]


def save_files(front: Front, folder: Path) -> dict[str, str]:
    """Copy every point's file into ``folder``, named by campaign and number.

    Candidate and sha256 of those whose file was dropped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gone = missing(front.files)
    for point in front.files:
        if point.candidate not in gone:
            shutil.copyfile(point.artifact, folder / f"{point.candidate.replace('/', '-')}.onnx")
    return gone
