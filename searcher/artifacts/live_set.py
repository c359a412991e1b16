"""The live set: files of fronts and of candidates that may still enter one, files in use, and
files that campaigns and jobs name.

Every other file can be built again from its recipe.
"""

from array import array
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlite_utils import Database

from searcher.errors import UserError
from searcher.ledger.tables import artifacts, search_state
from searcher.ledger.tables.artifacts import CompleteTrial

if TYPE_CHECKING:
    import numpy as np

    from searcher.spec.objectives import Objective

PAGE = 50
COMPARED_AT_ONCE = 100


Bounds = tuple[list[float], list[float], list[float]]


@dataclass(frozen=True)
class Points:
    """Feasible points of one device: their files, and the bounds of their objectives one after
    the other. Flat, because garbage collection would visit each of ten thousand lists."""

    files: list[str] = field(default_factory=list)
    low: "array[float]" = field(default_factory=lambda: array("d"))
    middle: "array[float]" = field(default_factory=lambda: array("d"))
    high: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, sha256: str, bounds: Bounds) -> None:
        self.files.append(sha256)
        for side, values in zip((self.low, self.middle, self.high), bounds, strict=True):
            side.extend(values)


def live_files(db: Database) -> Generator[None, None, set[str]]:
    """The sha256 of every file that campaigns, fronts and unfinished jobs need, in small steps.

    Files of running trials are not among them: see ``artifacts.of_work``.
    """
    stay: set[str] = set()
    jobs = artifacts.unfinished_jobs(db)
    for start in range(0, len(jobs), PAGE):
        stay |= artifacts.named_by_jobs(db, jobs[start:start + PAGE])
        yield
    name = ""
    while True:
        named, campaigns = artifacts.named_by_campaigns(db, name, PAGE)
        if not campaigns:
            return stay
        stay |= named
        yield
        for name, spec in campaigns:
            stay |= yield from _of_campaign(db, name, spec)


def _of_campaign(
    db: Database, name: str, spec: Mapping[str, object]
) -> Generator[None, None, set[str]]:
    """Files of the fronts of all its devices, and of points that may still enter one."""
    page = artifacts.complete_trials(db, name, 0, PAGE)
    if not page:
        return set()
    from searcher.spec.campaign import from_document  # numpy and moocore, only when they are needed
    from searcher.spec.objectives import resolved

    try:
        asked = from_document(spec).objectives
        objectives = {device: resolved(asked, state.quality)
                      for device, state in search_state.of_campaign(db, name).items()}
    except UserError:
        # A newer or older program's campaign: its fronts are not known here.
        return (yield from _all_complete(db, name))
    by_device: dict[str, Points] = {}
    stay: set[str] = set()
    while page:
        for trial in page:
            axes = objectives.get(trial.device)
            if axes is None:
                stay.add(trial.sha256)  # without the metric it is not known what beats it
            elif _feasible(trial, axes):
                points = by_device.setdefault(trial.device, Points())
                points.add(trial.sha256, _bounds(trial, axes))
        yield
        page = artifacts.complete_trials(db, name, page[-1].id, PAGE)
    for points in by_device.values():
        stay |= yield from undecided(points)
    return stay


def _all_complete(db: Database, name: str) -> Generator[None, None, set[str]]:
    stay: set[str] = set()
    after = 0
    while page := artifacts.complete_trials(db, name, after, PAGE):
        after = page[-1].id
        stay |= {trial.sha256 for trial in page}
        yield
    return stay


def _feasible(trial: CompleteTrial, objectives: "Sequence[Objective]") -> bool:
    return (trial.own and all(o.name in trial.values for o in objectives)
            and all(excess <= 0 for excess in trial.constraints.values()))


def undecided(points: Points) -> Generator[None, None, set[str]]:
    """Files of the front and of every point that no point of the front beats for certain."""
    import numpy as np

    from searcher.pareto.front import front_indices

    low, middle, high = (np.frombuffer(side).reshape(len(points.files), -1)
                         for side in (points.low, points.middle, points.high))
    front = front_indices(list(middle))
    yield
    worst = high[front]
    kept = set(front)
    for start in range(0, len(low), COMPARED_AT_ONCE):
        beaten = _beaten(low[start:start + COMPARED_AT_ONCE], worst)
        kept |= {start + int(index) for index in np.flatnonzero(~beaten)}
        yield
    return {points.files[index] for index in kept}


def _bounds(point: CompleteTrial, objectives: "Sequence[Objective]") -> Bounds:
    """Lowest, given and highest value per objective, signed so that smaller is better."""
    low, middle, high = [], [], []
    for o in objectives:
        value = point.values[o.name]
        ends = sorted((*point.intervals.get(o.name, (value, value)), value))
        sign = 1.0 if o.direction == "minimize" else -1.0
        signed = sorted((sign * ends[0], sign * ends[-1]))
        low.append(signed[0])
        middle.append(sign * value)
        high.append(signed[1])
    return low, middle, high


def _beaten(low: "np.ndarray", front_high: "np.ndarray") -> "np.ndarray":
    """Whether some front point at its worst is no worse than the point at its best."""
    import numpy as np

    no_worse = np.all(front_high[None, :, :] <= low[:, None, :], axis=2)
    return np.asarray(np.any(no_worse, axis=1))
