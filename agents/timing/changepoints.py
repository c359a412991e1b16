"""Steady or not: changes in a series of block medians, on plain numbers.

Changepoints minimise the squared distance from segment means of the logarithms plus a penalty for
each segment; the exact minimum by dynamic programming with pruning (PELT: Killick, Fearnhead and
Eckley 2012), as Barrett et al. (OOPSLA 2017) use it to ask whether a program ever gets warm. The
scale of the noise is taken from neighbours, so that a step does not count as noise. A trend is
the line of Theil and Sen, believed where Kendall's test (Mann 1945) does and most pairs of blocks
agree: a shared machine that changes to and fro has pairs of both kinds.
"""

from math import exp, isfinite, log, sqrt
from typing import List, NamedTuple, Optional, Sequence, Tuple

STEP = 0.03
"""Neighbouring segments whose levels differ by less (relative) are one."""
LEAST = 10
"""A last segment of so many blocks is a steady state."""
SHORTEST = 3
"""Fewer blocks are an outlier and no segment."""
PENALTY = 6.0
"""Times log n, per segment. Blocks are correlated, so it is above the 2 of Schwarz's criterion."""
FINEST = 2e-3
"""Noise below this (relative) is taken for this much: nobody asks for smaller steps."""
MOST_BINS = 64
SURE, MONOTONE = 3.3, 0.6
"""A trend is believed from so many standard errors of Kendall's score on (one series of noise in a
thousand), and from this tau on."""


class Step(NamedTuple):
    """The largest change between two lasting levels: from the block ``at`` on the level is
    ``ratio`` times the one before."""

    at: int
    ratio: float


def changepoints(values: Sequence[float]) -> List[int]:
    """Where a new level begins, ascending, without 0. ``values`` are above 0."""
    logs = _smoothed([log(value) for value in values])
    noise = _noise(logs)
    starts = _segments([value / noise for value in logs])
    return _merged(logs, starts)


def steady_from(values: Sequence[float]) -> Optional[int]:
    """From where on the series keeps one level to its end; None when that is not for ``LEAST``
    blocks, and so also for a shorter series."""
    if len(values) < LEAST:
        return None
    start = (changepoints(values) or [0])[-1]
    return start if len(values) - start >= LEAST else None


def largest_step(values: Sequence[float]) -> Optional[Step]:
    """None without one. Both levels last for a tenth of the series and ``SHORTEST`` blocks."""
    starts = [0, *changepoints(values), len(values)]
    lasting = max(SHORTEST, len(values) // 10)
    levels = [(start, _median(values[start:end])) for start, end in zip(starts, starts[1:])
              if end - start >= lasting]
    steps = [Step(after[0], after[1] / before[1])
             for before, after in zip(levels, levels[1:])]
    return max(steps, key=lambda step: abs(log(step.ratio))) if steps else None


def drift(values: Sequence[float]) -> float:
    """Relative change from the first to the last block along the trend; 0.0 where the trend is not
    beyond doubt."""
    logs = [log(value) for value in binned(values)]
    n = len(logs)
    if n < LEAST:
        return 0.0
    score = _kendall(logs)
    if abs(score) < SURE * sqrt(n * (n - 1) * (2 * n + 5) / 18.0) or (
            abs(score) < MONOTONE * n * (n - 1) / 2.0):
        return 0.0
    slopes = [(logs[j] - logs[i]) / (j - i) for i in range(n) for j in range(i + 1, n)]
    return exp(_median(slopes) * (n - 1)) - 1.0


def binned(values: Sequence[float], most: int = MOST_BINS) -> List[float]:
    """At most so many medians of neighbours, in their order."""
    n = len(values)
    if n <= most:
        return list(values)
    edges = [place * n // most for place in range(most + 1)]
    return [_median(values[start:end]) for start, end in zip(edges, edges[1:])]


def _smoothed(values: List[float]) -> List[float]:
    """Medians of three neighbours: a single slow block is no new level."""
    inner = [sorted(values[i - 1:i + 2])[1] for i in range(1, len(values) - 1)]
    return [values[0], *inner, values[-1]] if len(values) > 2 else values


def _noise(values: Sequence[float]) -> float:
    """Standard deviation from the differences of neighbours (their median absolute value)."""
    differences = [abs(b - a) for a, b in zip(values, values[1:])]
    # 0.6745: of a normal distribution; sqrt(2): of a difference.
    return max(_median(differences) / 0.6745 / sqrt(2.0) if differences else 0.0, FINEST)


def _segments(values: Sequence[float]) -> List[int]:
    """Starts of the segments, the first (0) left out."""
    n = len(values)
    sums, squares = [0.0], [0.0]
    for value in values:
        sums.append(sums[-1] + value)
        squares.append(squares[-1] + value * value)
    penalty = PENALTY * log(max(n, 2))
    best = [-penalty] + [float("inf")] * n
    previous = [0] * (n + 1)
    candidates = [0]
    for end in range(SHORTEST, n + 1):
        costs: List[Tuple[float, int]] = []
        for start in candidates:
            total, length = sums[end] - sums[start], end - start
            cost = best[start] + squares[end] - squares[start] - total * total / length
            costs.append((cost, start))
        cost, previous[end] = min(costs)
        best[end] = cost + penalty
        candidates = [start for within, start in costs if within <= best[end]]
        begins = end - SHORTEST + 1
        if begins >= SHORTEST and isfinite(best[begins]):
            candidates.append(begins)
    starts, end = [], n
    while previous[end] > 0:
        end = previous[end]
        starts.append(end)
    return starts[::-1]


def _merged(logs: Sequence[float], starts: Sequence[int]) -> List[int]:
    """Without the changes that are smaller than ``STEP``, the smallest first."""
    kept = list(starts)
    while kept:
        edges = [0, *kept, len(logs)]
        levels = [_median(logs[start:end]) for start, end in zip(edges, edges[1:])]
        sizes = [abs(b - a) for a, b in zip(levels, levels[1:])]
        smallest = sizes.index(min(sizes))
        if sizes[smallest] >= log(1.0 + STEP):
            break
        del kept[smallest]
    return kept


def _kendall(values: Sequence[float]) -> int:
    """Kendall's score: pairs that ascend less pairs that descend."""
    n = len(values)
    return sum((values[j] > values[i]) - (values[j] < values[i])
               for i in range(n) for j in range(i + 1, n))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2.0
