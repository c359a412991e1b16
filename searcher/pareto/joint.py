"""A front whose members are compared by what one job measured: rules on plain values.

Windows minutes apart differ by some percent on a shared machine, however narrow the interval of
each, so that files of one and the same structure come out in any order. When the search is over,
the front and what is close to it are timed once more, alternating with each other in the same
seconds; those figures make the front, and those that the search saw stay with their trials.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from searcher.pareto.front import Point, excess, front_of, losses
from searcher.spec.objectives import Objective

NEAR = 0.05
"""Windows of one campaign differ by up to this (relative): so much faster is every point taken to
be that may still have a place on the front."""
Together = Mapping[str, Mapping[str, Any]]
"""By the trial's id, as JSON has it: ``sha256``, and where the file could be measured ``values``,
``intervals``, ``constraints`` and ``measurement`` to go by."""


def contenders(points: Sequence[Point], objectives: Sequence[Objective]) -> list[Point]:
    """The front, and every feasible point that would be on it were it ``NEAR`` faster, fastest
    first."""
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


def entry_together(trial: Mapping[str, Any], measured: Mapping[str, Any], level_s: float,
                   constraints: Mapping[str, float]) -> dict[str, Any]:
    """What replaces a trial's figures: those of ``trial``, whose file may be one that was trained
    on, with the latency of ``measured`` (ratio, interval and measurement)."""
    ratio = float(measured["ratio"])
    values = {**trial["values"], "latency_ratio": ratio, "latency_s": ratio * level_s}
    return {
        "sha256": trial["sha256"], "measurement": measured["measurement"], "values": values,
        "intervals": {**(trial["intervals"] or {}), "latency_s": [
            measured["ratio_low"] * level_s, measured["ratio_high"] * level_s]},
        "constraints": excess(values, constraints)}


def revised(trial: Mapping[str, Any], together: Together) -> dict[str, Any]:
    """What a trial is by what was measured together, or its own where that holds nothing of it."""
    entry = together.get(str(trial["id"]), {})
    measured = "values" in entry
    return {
        "values": {**(trial["values"] or {}), **entry.get("values", {})},
        "intervals": {**(trial["intervals"] or {}), **entry.get("intervals", {})},
        "constraints": entry.get("constraints", trial["constraints"]),
        "measurement": entry.get("measurement", trial["measurement"]),
        "sha256": entry["sha256"] if measured else trial["sha256"],
        "reason": None if measured else trial["reason"]}


def told_point(trial: Mapping[str, Any]) -> Point | None:
    """The point that a told trial is; None unless its own file was measured, with no reason not
    to count."""
    if trial["state"] != "complete" or trial["reason"] is not None:
        return None
    feasible = all(v <= 0 for v in (trial["constraints"] or {}).values())
    return Point(trial["id"], trial["values"], feasible)
