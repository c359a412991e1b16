"""The joint measurement of the front at the end of a campaign: rules on plain values.

On a shared machine, two measurements minutes apart differ by a few percent, even when the interval
of each is narrow. Files of equal structure can then appear in any order. Therefore one job measures
the front and its close contenders once more, in alternation, when the search is over. The front is
computed from these figures; each trial keeps the figures that the search used.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from searcher.ledger.rows import TrialRow
from searcher.ledger.tables.search_state import JointMeasurement
from searcher.pareto.front import Point, front_of, losses
from searcher.spec.objectives import Objective

NEAR = 0.05
"""Relative difference in latency between two measurements of one file within a campaign. A point
that would be on the front if it were this much faster is a contender."""

Trial = TypeVar("Trial", bound=TrialRow)


def contenders(points: Sequence[Point], objectives: Sequence[Objective]) -> list[Point]:
    """The front and every feasible point that would be on it if it were ``NEAR`` faster, by
    increasing latency."""
    front = front_of(points, objectives)
    members = {p.trial for p in front}
    ends = [losses(p.values, objectives) for p in front]
    close = [p for p in points if p.feasible and (
        p.trial in members or not _dominated(p, ends, objectives))]
    return sorted(close, key=lambda p: p.values["latency_s"])


def _dominated(point: Point, front: Sequence[Sequence[float]],
               objectives: Sequence[Objective]) -> bool:
    faster = {**point.values, "latency_s": point.values["latency_s"] * (1 - NEAR)}
    own = losses(faster, objectives)
    return any(all(a <= b for a, b in zip(end, own, strict=True)) for end in front)


def with_joint_measurement(trial: Trial, joint: JointMeasurement) -> Trial:
    """``trial`` with the figures of its joint entry, as far as it has one."""
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
    """The point of a completed trial. None when the trial is not complete, or has a reason not to
    count, such as a latency measured on another file."""
    if trial.state != "complete" or trial.reason is not None:
        return None
    feasible = all(v <= 0 for v in (trial.constraints or {}).values())
    return Point(trial.id, trial.values or {}, feasible)
