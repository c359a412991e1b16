"""The joint measurement of the front at the end of a campaign: rules on plain values.

On a shared machine, two measurements minutes apart differ by a few percent, even when the interval
of each is narrow. Files of equal structure can then appear in any order. Therefore one job measures
the front and its close contenders once more, in alternation, when the search is over. The front is
computed from these figures; each trial keeps the figures that the search used.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from searcher.pareto.front import Point, excess, front_of, losses
from searcher.spec.objectives import Objective

NEAR = 0.05
"""Relative difference in latency between two measurements of one file within a campaign. A point
that would be on the front if it were this much faster is a contender."""
JointFigures = Mapping[str, Mapping[str, Any]]
"""Joint entries by trial id (a string, as in JSON). Each has ``sha256``; an entry whose file was
measured also has ``values``, ``intervals``, ``constraints`` and ``measurement``."""


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


def joint_entry(trial: Mapping[str, Any], measured: Mapping[str, Any], level_s: float,
                constraints: Mapping[str, float]) -> dict[str, Any]:
    """The entry of one trial in ``JointFigures``: the figures of ``trial`` with the latency of
    ``measured``, a joint measurement. ``level_s`` converts the ratio to seconds."""
    ratio = float(measured["ratio"])
    values = {**trial["values"], "latency_ratio": ratio, "latency_s": ratio * level_s}
    return {
        "sha256": trial["sha256"], "measurement": measured["measurement"], "values": values,
        "intervals": {**(trial["intervals"] or {}), "latency_s": [
            measured["ratio_low"] * level_s, measured["ratio_high"] * level_s]},
        "constraints": excess(values, constraints)}


def with_joint_measurement(trial: Mapping[str, Any], together: JointFigures) -> dict[str, Any]:
    """The fields of ``trial`` replaced by its entry in ``together``, as far as it has one."""
    entry = together.get(str(trial["id"]), {})
    measured = "values" in entry
    return {
        "values": {**(trial["values"] or {}), **entry.get("values", {})},
        "intervals": {**(trial["intervals"] or {}), **entry.get("intervals", {})},
        "constraints": entry.get("constraints", trial["constraints"]),
        "measurement": entry.get("measurement", trial["measurement"]),
        "sha256": entry["sha256"] if measured else trial["sha256"],
        "reason": None if measured else trial["reason"]}


def trial_point(trial: Mapping[str, Any]) -> Point | None:
    """The point of a completed trial. None when the trial is not complete, or has a reason not to
    count, such as a latency measured on another file."""
    if trial["state"] != "complete" or trial["reason"] is not None:
        return None
    feasible = all(v <= 0 for v in (trial["constraints"] or {}).values())
    return Point(trial["id"], trial["values"], feasible)
