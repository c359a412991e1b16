"""Changepoints and trends in a series of block medians.

Changepoints minimise the squared distance of the logarithms from their segment means, plus a
penalty per segment. The minimum is exact, by dynamic programming with pruning (PELT: Killick,
Fearnhead and Eckley 2012), as Barrett et al. (OOPSLA 2017) use it to decide whether a program
reaches a steady state. The noise is estimated from differences of neighbours, which a level shift
does not inflate. A trend is a Theil-Sen line. It is significant if Kendall's test (Mann 1945) says
so and most pairs of blocks agree; on a shared machine that alternates between speeds they do not.
"""

from math import exp, isfinite, log, sqrt
from typing import List, NamedTuple, Optional, Sequence, Tuple

MIN_SHIFT = 0.03
"""Least relative difference between the levels of neighbouring segments."""
MIN_STEADY_BLOCKS = 10
"""Least length of a last segment that is a steady state, in blocks."""
MIN_SEGMENT = 3
"""Least length of a segment in blocks; fewer are outliers."""
PENALTY = 6.0
"""Penalty per segment, times log n. Above the 2 of Schwarz's criterion, as blocks are
correlated."""
MIN_NOISE = 2e-3
"""Lower bound of the relative noise; smaller shifts are not of interest."""
MAX_BINS = 64
TREND_SCORE, TREND_TAU = 3.3, 0.6
"""A trend is significant from this many standard errors of Kendall's score (one series of noise in
a thousand), and from this tau."""


class LevelShift(NamedTuple):
    """A change between two lasting levels: from block ``at`` the level is ``ratio`` times the level
    before."""

    at: int
    ratio: float


def changepoints(values: Sequence[float]) -> List[int]:
    """Ascending indices at which a new level begins, without 0. ``values`` must be positive."""
    logs = _smoothed([log(value) for value in values])
    noise = _noise(logs)
    starts = _segments([value / noise for value in logs])
    return _merged(logs, starts)


def steady_start(values: Sequence[float]) -> Optional[int]:
    """Index from which the series keeps one level to its end; None if that last segment has fewer
    than ``MIN_STEADY_BLOCKS`` blocks."""
    if len(values) < MIN_STEADY_BLOCKS:
        return None
    start = (changepoints(values) or [0])[-1]
    return start if len(values) - start >= MIN_STEADY_BLOCKS else None


def largest_shift(values: Sequence[float]) -> Optional[LevelShift]:
    """The largest shift between two levels that each last for a tenth of the series and for
    ``MIN_SEGMENT`` blocks; None if there is none."""
    starts = [0, *changepoints(values), len(values)]
    lasting = max(MIN_SEGMENT, len(values) // 10)
    levels = [(start, _median(values[start:end])) for start, end in zip(starts, starts[1:])
              if end - start >= lasting]
    steps = [LevelShift(after[0], after[1] / before[1])
             for before, after in zip(levels, levels[1:])]
    return max(steps, key=lambda step: abs(log(step.ratio))) if steps else None


def drift(values: Sequence[float]) -> float:
    """Relative change from the first to the last block along the trend; 0.0 if the trend is not
    significant."""
    logs = [log(value) for value in bin_medians(values)]
    n = len(logs)
    if n < MIN_STEADY_BLOCKS:
        return 0.0
    score = _kendall(logs)
    if abs(score) < TREND_SCORE * sqrt(n * (n - 1) * (2 * n + 5) / 18.0) or (
            abs(score) < TREND_TAU * n * (n - 1) / 2.0):
        return 0.0
    slopes = [(logs[j] - logs[i]) / (j - i) for i in range(n) for j in range(i + 1, n)]
    return exp(_median(slopes) * (n - 1)) - 1.0


def bin_medians(values: Sequence[float], most: int = MAX_BINS) -> List[float]:
    """Medians of at most ``most`` groups of neighbouring values, in order."""
    n = len(values)
    if n <= most:
        return list(values)
    edges = [place * n // most for place in range(most + 1)]
    return [_median(values[start:end]) for start, end in zip(edges, edges[1:])]


def _smoothed(values: List[float]) -> List[float]:
    """Medians of three neighbours, so that a single slow block is not a new level."""
    inner = [sorted(values[i - 1:i + 2])[1] for i in range(1, len(values) - 1)]
    return [values[0], *inner, values[-1]] if len(values) > 2 else values


def _noise(values: Sequence[float]) -> float:
    """Standard deviation, estimated from the median absolute difference of neighbours."""
    differences = [abs(b - a) for a, b in zip(values, values[1:])]
    # 0.6745: of a normal distribution; sqrt(2): of a difference.
    return max(_median(differences) / 0.6745 / sqrt(2.0) if differences else 0.0, MIN_NOISE)


def _segments(values: Sequence[float]) -> List[int]:
    """Starts of the segments, without the first (0)."""
    n = len(values)
    sums, squares = [0.0], [0.0]
    for value in values:
        sums.append(sums[-1] + value)
        squares.append(squares[-1] + value * value)
    penalty = PENALTY * log(max(n, 2))
    best = [-penalty] + [float("inf")] * n
    previous = [0] * (n + 1)
    candidates = [0]
    for end in range(MIN_SEGMENT, n + 1):
        costs: List[Tuple[float, int]] = []
        for start in candidates:
            total, length = sums[end] - sums[start], end - start
            cost = best[start] + squares[end] - squares[start] - total * total / length
            costs.append((cost, start))
        cost, previous[end] = min(costs)
        best[end] = cost + penalty
        candidates = [start for within, start in costs if within <= best[end]]
        begins = end - MIN_SEGMENT + 1
        if begins >= MIN_SEGMENT and isfinite(best[begins]):
            candidates.append(begins)
    starts, end = [], n
    while previous[end] > 0:
        end = previous[end]
        starts.append(end)
    return starts[::-1]


def _merged(logs: Sequence[float], starts: Sequence[int]) -> List[int]:
    """The starts after merging segments whose levels differ by less than ``MIN_SHIFT``, the
    smallest difference first."""
    kept = list(starts)
    while kept:
        edges = [0, *kept, len(logs)]
        levels = [_median(logs[start:end]) for start, end in zip(edges, edges[1:])]
        sizes = [abs(b - a) for a, b in zip(levels, levels[1:])]
        smallest = sizes.index(min(sizes))
        if sizes[smallest] >= log(1.0 + MIN_SHIFT):
            break
        del kept[smallest]
    return kept


def _kendall(values: Sequence[float]) -> int:
    """Kendall's score: the number of ascending pairs minus that of descending pairs."""
    n = len(values)
    return sum((values[j] > values[i]) - (values[j] < values[i])
               for i in range(n) for j in range(i + 1, n))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2.0
