"""A front whose members are compared by what one job measured.

Jobs minutes apart differ by some percent on a shared machine, however narrow the interval of each,
so that files of the same structure come out in any order. When the search is over, the front and
what is close to it are timed once more, alternating with each other in the same seconds. Those
figures make the front; those that the search saw stay with their trials.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from searcher.ledger.rows import TrialRow
from searcher.ledger.tables.search_state import JointMeasurement
from searcher.pareto.front import Point, front_of, losses
from searcher.spec.objectives import Objective

NEAR = 0.05
"""Windows of one campaign differ by up to this (relative): so much faster is every point taken to
be that may still have a place on the front."""

Trial = TypeVar("Trial", bound=TrialRow)


def contenders(points: Sequence[Point], objectives: Sequence[Objective]) -> list[Point]:
    """The front and every feasible point that would be on it if it were ``NEAR`` faster, by
    increasing latency."""
    front = front_of(points, objectives)
    members = {p.trial for p in front}
    ends = [losses(p.values, objectives) for p in front]
    close = [p for p in points if p.feasible and (
        p.trial in members or not _beaten(p, ends, objectives))]
    return sorted(close, key=lambda p: p.values["latency_s"])


def _beaten(point: Point, front: Sequence[Sequence[float]],
            objectives: Sequence[Objective]) -> bool:
    faster = {**point.values, "latency_s": point.values["latency_s"] * (1 - NEAR)}
    own = losses(faster, objectives)
    return any(all(a <= b for a, b in zip(end, own, strict=True)) for end in front)


def with_joint_measurement(trial: Trial, joint: JointMeasurement) -> Trial:
    """``trial`` with the figures of the joint measurement, or as it is where that has none."""
    entry = joint.get(trial.id)
    if entry is None:
        return trial
    measured = entry.values is not None
    return replace(
        trial, values={**(trial.values or {}), **(entry.values or {})},
        intervals={**(trial.intervals or {}), **(entry.intervals or {})},
        constraints=trial.constraints if entry.constraints is None else entry.constraints,
        measurement=trial.measurement if entry.measurement is None else entry.measurement,
        sha256=entry.sha256 if measured else trial.sha256,
        reason=None if measured else trial.reason)


def trial_point(trial: TrialRow) -> Point | None:
    """The point of a finished trial; None unless its own file was measured, and nothing says that
    it does not count."""
    if trial.state != "complete" or trial.reason is not None:
        return None
    feasible = all(v <= 0 for v in (trial.constraints or {}).values())
    return Point(trial.id, trial.values or {}, feasible)
