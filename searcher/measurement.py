"""Raw samples and units in, summaries out: plans, ratios to the reference, intervals, warnings.

A candidate is timed in blocks of a few milliseconds between two blocks of the device's reference
(timeline: ``agents/measurement/runner.py``). A block counts when the reference beside it ran at
its quiet level. Per counted block the ratio is ``candidate / mean(before, after)``; the summary is
the median of these ratios with its distribution-free 95 % interval (order statistics), or the
wider one that resampling its sessions gives (``searcher/intervals.py``).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from searcher.devices.quiet import BUSY_FACTOR
from searcher.errors import UserError, nearest
from searcher.intervals import CONFIDENCE, Quantile, median_rank, quantile, session_interval

GATE = 0.10
"""The quiet state of a machine is itself some percent wide (frequency, placement of sessions); its
slow state begins far above. Between gates of 6 and 13 % ratios differed by under half a percent,
at 6 % half of the quiet blocks were thrown away."""
EQUAL = 0.01
"""Costs that differ by less than this share are called equal."""


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure; seconds are device time per candidate. The fields are
    those of ``agents.protocol.MeasurePlan``."""

    name: str
    block_s: float = 0.004
    min_blocks: int = 20
    min_s: float = 0.0
    max_s: float = 6.0
    gate: float = GATE
    fresh_session_every_s: float = 1.0
    warmup_s: float = 0.05
    memory: bool = False
    processes: int = 1
    energy_s: float = 0.0
    idle_s: float = 0.0
    warmup_max_s: float = 0.0
    start_below_c: float = 0.0
    cool_down_s: float = 0.0
    cache_flush_bytes: int = 0
    refuse_doubt: bool = False
    nodes: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


PLANS = {
    "quick": Plan("quick", min_blocks=24, max_s=1.5, fresh_session_every_s=0.5),
    "standard": Plan("standard", min_blocks=120, min_s=2.0, max_s=15.0, memory=True, processes=2,
                     warmup_max_s=1.0, start_below_c=75.0, cool_down_s=30.0, energy_s=20.0,
                     idle_s=5.0, nodes=True),
    "strict": Plan("strict", min_blocks=400, min_s=8.0, max_s=60.0, memory=True, processes=4,
                   warmup_max_s=5.0, start_below_c=60.0, cool_down_s=600.0, refuse_doubt=True,
                   energy_s=60.0, idle_s=10.0, nodes=True),
}


def screening(plan: Plan, energy: bool = False) -> Plan:
    """The plan for untrained candidates: enough blocks to decide about training, no more. On a
    busy machine it does not wait for quiet ones; ``rough_ratio`` is then what there is.
    ``energy``: whether it is to be known then already, being an objective."""
    if not energy:
        plan = replace(plan, energy_s=0.0, idle_s=0.0)
    return replace(plan, name=f"{plan.name}-screening", min_blocks=max(8, plan.min_blocks // 3),
                   min_s=min(plan.min_s, plan.max_s / 10) / 2, max_s=plan.max_s / 10, memory=False,
                   processes=1, warmup_s=min(plan.warmup_s, 0.01), warmup_max_s=0.0,
                   refuse_doubt=False, nodes=False)


def plan_of(value: str | Mapping[str, Any]) -> Plan:
    """A plan by name, or a table of fields over ``quick``. Raises UserError."""
    if isinstance(value, str):
        if value not in PLANS:
            raise UserError(f"Unknown measurement plan {value!r}. {nearest(value, PLANS)}")
        return PLANS[value]
    known = set(Plan.__dataclass_fields__)
    for key in value:
        if key not in known:
            raise UserError(f"Unknown key {key!r} in the measurement plan. {nearest(key, known)}")
        _check_type(key, value[key])
    plan = Plan(**{**PLANS["quick"].as_dict(), "name": "custom", **value})
    if plan.block_s <= 0 or plan.min_blocks < 6 or plan.max_s <= 0 or plan.processes < 1:
        raise UserError("A measurement plan needs block_s > 0, min_blocks >= 6, max_s > 0 and "
                        f"processes >= 1, got {plan.as_dict()}.")
    return plan


def _check_type(key: str, value: Any) -> None:
    kind = type(getattr(PLANS["quick"], key))
    right = isinstance(value, int | float if kind is float else kind)
    if kind in (int, float):
        right = right and not isinstance(value, bool) and 0 <= value < math.inf
    if not right:
        words = {bool: "true or false", int: "a whole number", float: "a number of at least 0"}
        raise UserError(f"{key} = {value!r} in the measurement plan must be "
                        f"{words.get(kind, 'a text')}.")


@dataclass(frozen=True)
class Summary:
    """What a measurement says. ``ratio`` is candidate over reference in quiet blocks; seconds are
    one call at the trial's batch; ``n`` counts quiet blocks, ``calls`` the calls inside them, which
    the quantiles are of; ``session_blocks`` counts all blocks between two openings,
    ``session_ratios`` has the median of each opening that has quiet ones."""

    ratio: float
    ratio_low: float
    ratio_high: float
    quiet_level_s: float
    latency_s: float
    latency_low_s: float
    latency_high_s: float
    p50_s: Quantile
    p90_s: Quantile
    p99_s: Quantile
    ungated_p50_s: float
    n: int
    calls: int
    quiet_share: float
    session_blocks: tuple[int, ...]
    session_ratios: tuple[float, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        # dataclasses.asdict copies everything deeply, at ten times the price.
        return {**self.__dict__, "warnings": list(self.warnings),
                "session_blocks": list(self.session_blocks),
                "session_ratios": list(self.session_ratios),
                **{name: dict(getattr(self, name).__dict__)
                   for name in ("p50_s", "p90_s", "p99_s")}}


def quiet_blocks(blocks: Mapping[str, Sequence[float]], level_s: float, gate: float) -> np.ndarray:
    """Which blocks count: both reference blocks beside them within ``gate`` of ``level_s``."""
    before, after = np.asarray(blocks["before_s"]), np.asarray(blocks["after_s"])
    limit = level_s * (1 + gate)
    quiet: np.ndarray = (before <= limit) & (after <= limit)
    return quiet


def summarise(
    blocks: Mapping[str, Sequence[float]],
    calls_ns: Sequence[int],
    calls_per_block: Sequence[int],
    gate_level_s: float,
    quiet_level_s: float | None = None,
    gate: float = GATE,
    session_blocks: Sequence[int] = (),
    warnings: Sequence[str] = (),
) -> Summary:
    """Summary of one candidate.

    ``gate_level_s`` is the reference level that the blocks were gated by, ``quiet_level_s`` the
    level that the device is known by: ``latency_s`` is the ratio times the latter. ``calls_ns``
    are the single calls, block by block, ``calls_per_block`` in number; ``session_blocks`` says how
    many blocks each opening lasted. ``warnings`` are the agent's. Raises ValueError when no block
    was quiet.
    """
    candidate = np.asarray(blocks["candidate_s"], dtype=float)
    beside = (np.asarray(blocks["before_s"]) + np.asarray(blocks["after_s"])) / 2
    quiet = quiet_blocks(blocks, gate_level_s, gate)
    in_order = candidate[quiet] / beside[quiet]
    ratios = np.sort(in_order)
    n = len(ratios)
    if n == 0:
        raise ValueError("no quiet block: nothing to summarise")
    ratio, rank = _middle(ratios), median_rank(n, CONFIDENCE)
    low, high = float(ratios[rank]), float(ratios[n - 1 - rank])
    session_ratios: tuple[float, ...] = ()
    if sum(session_blocks) == len(quiet):
        session = np.repeat(np.arange(len(session_blocks)), session_blocks)[quiet]
        session_ratios = tuple(float(np.median(in_order[session == one]))
                               for one in np.unique(session))
        drifting = session_interval(in_order, session)
        if drifting is not None:
            low, high = min(low, drifting[0]), max(high, drifting[1])
    level = quiet_level_s or gate_level_s
    singles = np.sort(np.asarray(calls_ns)[np.repeat(quiet, calls_per_block)] * 1e-9)
    return Summary(
        ratio=ratio, ratio_low=low, ratio_high=high, quiet_level_s=level,
        latency_s=ratio * level, latency_low_s=low * level, latency_high_s=high * level,
        p50_s=quantile(singles, 0.50), p90_s=quantile(singles, 0.90), p99_s=quantile(singles, 0.99),
        ungated_p50_s=_middle(np.sort(candidate)), n=n, calls=len(singles),
        quiet_share=n / len(quiet), session_blocks=tuple(session_blocks),
        session_ratios=session_ratios,
        warnings=(*warnings, *_warnings(ratios, n / len(quiet), gate_level_s / level)),
    )


def _middle(ordered: np.ndarray) -> float:
    half = len(ordered) // 2
    return float(ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2)


def _warnings(ordered: np.ndarray, quiet_share: float, slower: float) -> tuple[str, ...]:
    found, n = [], len(ordered)
    spread = float((ordered[-1 - n // 4] - ordered[n // 4]) / ordered[n // 2])
    if spread > 0.10:
        found.append(f"block ratios spread by {spread:.0%} between the quartiles")
    if n < 20:
        found.append(f"only {n} quiet blocks")
    if quiet_share < 0.2:
        found.append(f"the machine was quiet in only {quiet_share:.0%} of the blocks")
    if slower > BUSY_FACTOR:
        found.append(f"the reference took {slower - 1:.0%} longer than it is known to: the machine "
                     "was slow throughout, and the ratio is that of then")
    return tuple(found)


def rough_ratio(blocks: Mapping[str, Sequence[float]]) -> float:
    """Candidate over reference in the third of the blocks whose reference ran fastest.

    What is left when too few blocks were quiet: off by up to a quarter, because a busy machine
    slows different code differently. Good for deciding what to train, never for a front.
    """
    beside = np.maximum(np.asarray(blocks["before_s"]), np.asarray(blocks["after_s"]))
    fastest = np.argsort(beside, kind="stable")[: max(len(beside) // 3, 1)]
    return float(np.median(np.asarray(blocks["candidate_s"])[fastest] / beside[fastest]))


TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "int8": 2e-2}
"""Largest allowed distance of device outputs from the host's, relative to the output range."""


def parity(expected: Sequence[float], outputs: Sequence[float], number_format: str) -> str | None:
    """None when the device computes what the host computes, otherwise the reason in words."""
    if len(expected) != len(outputs):
        return f"parity: {len(outputs)} output values where the host has {len(expected)}"
    if not all(map(math.isfinite, outputs)):
        return "parity: the device computed values that are not finite"
    if not expected:
        return None
    if not all(map(math.isfinite, expected)):
        return "parity: the host computed values that are not finite"
    host, device = np.asarray(expected), np.asarray(outputs)
    scale = max(float(np.max(np.abs(host))), 1e-6)
    distance = float(np.max(np.abs(host - device))) / scale
    tolerance = TOLERANCE[number_format]
    if distance > tolerance:
        return f"parity: outputs differ by {distance:.2%} of their range, allowed {tolerance:.2%}"
    return None


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), 95 % by default."""
    if n <= 0:
        raise ValueError(f"an accuracy needs n > 0, got {n}")
    p, zz = hits / n, z * z
    middle = (p + zz / (2 * n)) / (1 + zz / n)
    half = z / (1 + zz / n) * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(
    baseline: np.ndarray, candidate: np.ndarray, z: float = 1.959964
) -> tuple[float, float, float]:
    """Baseline minus candidate accuracy over the same samples, with its 95 % interval.

    Agresti and Min (2005): Wald's interval after adding half an observation to each cell.
    """
    first, second = np.asarray(baseline, dtype=bool), np.asarray(candidate, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"paired samples differ in number: {first.shape} and {second.shape}")
    n = len(first)
    lost, won = int((first & ~second).sum()), int((~first & second).sum())
    adjusted, b, c = n + 2, lost + 0.5, won + 0.5
    middle = (b - c) / adjusted
    half = z * math.sqrt(max(b + c - (b - c) ** 2 / adjusted, 0.0)) / adjusted
    return (lost - won) / n, middle - half, middle + half
