"""Which files must stay: what a front holds or may still hold, what is being worked on, and what
campaigns and jobs name.

Everything else can be built again from its recipe.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from searcher.errors import UserError
from searcher.ledger import files
from searcher.ledger.files import CompleteTrial

if TYPE_CHECKING:
    import numpy as np

    from searcher.front import Objective

PAGE = 100
COMPARED_AT_ONCE = 200


def needed(db: Database) -> Generator[None, None, set[str]]:
    """The sha256 of every file that campaigns, fronts and unfinished jobs need, in small steps.

    Files of running trials are not among them: see ``files.of_work``.
    """
    stay: set[str] = set()
    jobs = files.unfinished_jobs(db)
    for start in range(0, len(jobs), PAGE):
        stay |= files.named_by_jobs(db, jobs[start:start + PAGE])
        yield
    name = ""
    while True:
        named, campaigns = files.named_by_campaigns(db, name, PAGE)
        if not campaigns:
            return stay
        stay |= named
        yield
        for name, spec in campaigns:
            stay |= yield from _of_campaign(db, name, spec)


def _of_campaign(
    db: Database, name: str, spec: Mapping[str, Any]
) -> Generator[None, None, set[str]]:
    """Files of the fronts of all its devices, and of points that may still enter one."""
    by_device: dict[str, list[CompleteTrial]] = {}
    after = 0
    while found := files.complete_trials(db, name, after, PAGE):
        after = found[-1].id
        for trial in found:
            by_device.setdefault(trial.device, []).append(trial)
        yield
    if not by_device:
        return set()
    from searcher.campaign import from_document  # numpy and moocore, only when they are needed

    try:
        objectives = from_document(spec).objectives
    except UserError:
        # A newer or older program's campaign: what its fronts are is not known here.
        return {trial.sha256 for trials in by_device.values() for trial in trials}
    stay: set[str] = set()
    for trials in by_device.values():
        points = [t for t in trials if _feasible(t, objectives)]
        if points:
            kept = yield from _undecided(points, objectives)
            stay |= {points[index].sha256 for index in kept}
    return stay


def _feasible(trial: CompleteTrial, objectives: "Sequence[Objective]") -> bool:
    return (trial.own and all(o.name in trial.values for o in objectives)
            and all(excess <= 0 for excess in trial.constraints.values()))


def _undecided(
    points: "Sequence[CompleteTrial]", objectives: "Sequence[Objective]"
) -> Generator[None, None, list[int]]:
    """Indices of the front's points and of those that no point of it surely beats."""
    import numpy as np

    from searcher.front import front_indices

    low, middle, high = (np.asarray(side) for side in zip(
        *(_bounds(point, objectives) for point in points), strict=True))
    front = front_indices(middle.tolist())
    kept = set(front)
    for start in range(0, len(points), COMPARED_AT_ONCE):
        part = slice(start, start + COMPARED_AT_ONCE)
        kept |= {start + int(i) for i in np.flatnonzero(~_beaten(low[part], high[front]))}
        yield
    return sorted(kept)


def _bounds(
    point: CompleteTrial, objectives: "Sequence[Objective]"
) -> tuple[list[float], list[float], list[float]]:
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
