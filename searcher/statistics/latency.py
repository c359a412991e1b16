"""Raw samples and units in, summaries out: plans, ratios to the reference, intervals, warnings.

A candidate is timed in blocks of a few milliseconds between two blocks of the device's reference
(see ``agents/runner.py`` for the timeline). A block counts when the reference beside it ran at
its quiet level. Per counted block the ratio is ``candidate / mean(before, after)``; the summary is
the median of these ratios with its distribution-free 95 % interval (order statistics), or the
wider one that resampling its sessions gives (``searcher/statistics/intervals.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from searcher.spec.measurement_plan import GATE
from searcher.statistics.intervals import (
    CONFIDENCE,
    Quantile,
    median_rank,
    quantile,
    session_interval,
)
from searcher.statistics.quiet_level import BUSY_FACTOR

EQUAL = 0.01
"""Costs that differ by less than this share are called equal."""


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
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in asdict(self).items()}


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


