"""Latency in pairs: blocks of a candidate between blocks of the reference, gated by it.

A shared machine drifts by tens of percent within seconds and slows different code differently.
Candidates and reference therefore alternate within milliseconds, and a block of a candidate
counts only while both reference blocks beside it ran at the reference's quiet level.

    round 0:  R c1 R c2 R c3 R          "R": a block of the reference, at least one call,
    round 1:  R c3 R c2 R c1 R               new calls are begun for block_s seconds

A call that is short against the clock's tick is repeated within one sample, which is their mean.
The first warm-up ends when a steady state is detected (``changepoints.py``), if the plan has time.

Two candidates share the R between them, two rounds the R between them too, unless the sessions
were opened afresh in between: placement in memory is a property of a session, so that a
measurement in one session alone would measure that too.

The functions here are pure: the clock (nanoseconds) and the sessions come from outside.
"""

import gc
from bisect import insort
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from agents.protocol import Blocks, MeasurePlan
from agents.timing.calls import NS, Run, flusher, median, repeats_for, tick_ns, time_block
from agents.timing.changepoints import LEAST, steady_from

LEVEL_SHARE = 0.05
"""The quiet level is this quantile of the reference's block medians."""
BUSY_FACTOR = 1.2
"""A job whose own level is so many times the known one tells nothing about quiet blocks."""
REOPENING_SHARE = 0.1
"""Opening sessions afresh may take at most this share of the time."""
GIVE_UP_FROM, GIVE_UP_BELOW = 0.25, 0.5
"""After this share of its time a job is given up that has less than this share of the quiet
blocks which it should have by then."""


class Level(NamedTuple):
    """``gate_s`` gates the blocks; ``own_s`` is what this job alone would have used."""

    gate_s: float
    own_s: float
    busy: bool


class Verdict(NamedTuple):
    verdict: str
    reasons: List[str]
    quiet_blocks: int


class Series:
    """The blocks of one candidate: medians in seconds, single calls in nanoseconds."""

    def __init__(self) -> None:
        self.candidate_s: List[float] = []
        self.before_s: List[float] = []
        self.after_s: List[float] = []
        self.calls_ns: List[int] = []
        self.calls_per_block: List[int] = []
        self.session_blocks: List[int] = []

    def add(self, before_s: float, calls_ns: Sequence[int], after_s: float) -> None:
        self.before_s.append(before_s)
        self.candidate_s.append(median(calls_ns) / NS)
        self.after_s.append(after_s)
        self.calls_ns.extend(calls_ns)
        self.calls_per_block.append(len(calls_ns))
        if not self.session_blocks:
            self.begin_session()
        self.session_blocks[-1] += 1

    def begin_session(self) -> None:
        self.session_blocks.append(0)

    def extend(self, other: "Series") -> None:
        """Pools the blocks of another process."""
        self.candidate_s.extend(other.candidate_s)
        self.before_s.extend(other.before_s)
        self.after_s.extend(other.after_s)
        self.calls_ns.extend(other.calls_ns)
        self.calls_per_block.extend(other.calls_per_block)
        self.session_blocks.extend(other.session_blocks)

    def blocks(self) -> Blocks:
        return Blocks(self.candidate_s, self.before_s, self.after_s)


class Rounds(NamedTuple):
    """All blocks of one process; ``series[i]`` belongs to the session ``i + 1``. ``unsteady`` are
    the sessions that found no steady state in their warm-up, ``repeats[i]`` the calls in a sample
    of session ``i``."""

    reference_s: List[float]
    series: List[Series]
    openings: int
    unsteady: List[int]
    repeats: List[int]


def level_of(ordered_reference_s: Sequence[float], known_s: Optional[float]) -> Level:
    """The level that gates; ``ordered_reference_s`` ascends and is not empty.

    The known level of the device is used when it is the lower one, but not when this job's own is
    more than ``BUSY_FACTOR`` times as high: then the whole job is busy.
    """
    own = ordered_reference_s[int(LEVEL_SHARE * (len(ordered_reference_s) - 1))]
    if known_s is None or known_s >= own:
        return Level(own, own, False)
    if own > known_s * BUSY_FACTOR:
        return Level(own, own, True)
    return Level(known_s, own, False)


def quiet(series: Series, level_s: float, gate: float) -> List[bool]:
    """Which blocks count."""
    limit = level_s * (1 + gate)
    return [worse <= limit for worse in map(max, series.before_s, series.after_s)]


def judge(series: Series, level: Level, plan: MeasurePlan) -> Verdict:
    """Valid when enough blocks were quiet, else invalid for ``busy``."""
    count = 0 if level.busy else sum(quiet(series, level.gate_s, plan.gate))
    if count < plan.min_blocks:
        return Verdict("invalid", ["busy"], count)
    return Verdict("valid", [], count)


def share(plan: MeasurePlan, processes: int) -> MeasurePlan:
    """What one of ``processes`` has to do of a plan."""
    return plan._replace(
        min_blocks=-(-plan.min_blocks // processes), min_s=plan.min_s / processes,
        max_s=plan.max_s / processes, processes=1)


def measure_rounds(
    open_sessions: Callable[[], Sequence[Run]],
    plan: MeasurePlan,
    known_level_s: Optional[float],
    clock_ns: Callable[[], int],
    announce: Callable[[int], None],
    first: Optional[Sequence[Run]] = None,
    first_opening_s: float = 0.0,
) -> Rounds:
    """Rounds until every candidate has its quiet blocks and its time, or the time is over.

    ``open_sessions`` opens all anew, the reference first. ``announce(i)`` comes before session
    ``i`` is run: should the process die, that is the one to blame. ``first`` are sessions that
    are open already, which took ``first_opening_s``. Without candidates the reference alone is
    timed. Without a known level the rounds last ``max_s`` at least: the machine may be in its
    slow state just now, and would teach that.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _Pairing(open_sessions, plan, known_level_s, clock_ns, announce).rounds(
            first, first_opening_s)
    finally:
        if collecting:
            gc.enable()


class _Pairing:
    """The state of one run of rounds."""

    def __init__(self, open_sessions: Callable[[], Sequence[Run]], plan: MeasurePlan,
                 known_level_s: Optional[float], clock_ns: Callable[[], int],
                 announce: Callable[[int], None]) -> None:
        self._open_sessions = open_sessions
        self._plan = plan
        self._known_level_s = known_level_s
        self._clock_ns = clock_ns
        self._announce = announce
        self._reference_s: List[float] = []
        self._ordered_s: List[float] = []
        self._series: List[Series] = []
        self._openings = 0
        self._unsteady: List[int] = []
        self._repeats: List[int] = []
        self._tick_ns = tick_ns(clock_ns)
        self._flush = flusher(plan.cache_flush_bytes)

    def rounds(self, first: Optional[Sequence[Run]], opening_s: float) -> Rounds:
        if first is None:
            runs, opening_s = self._open()
        else:
            runs = first
            self._warm(runs, self._plan.warmup_s)
        self._series = [Series() for _ in runs[1:]]
        self._begin_session()
        started = opened = self._now_s()
        previous: Optional[float] = None
        count = check_at = 0
        while True:
            if count and self._now_s() - opened >= max(
                    self._plan.fresh_session_every_s, opening_s / REOPENING_SHARE):
                runs = []  # the old sessions are closed before the new ones open
                runs, opening_s = self._open()
                opened, previous = self._now_s(), None
                self._begin_session()
            previous = self._round(runs, reverse=count % 2 == 1, previous=previous)
            count += 1
            elapsed = self._now_s() - started
            if elapsed >= self._plan.max_s * max(len(self._series), 1):
                break
            if count >= check_at:
                if self._enough(elapsed):
                    break
                # Counting costs time in proportion to the blocks, so it gets rarer.
                check_at = max(count + 1 + count // 16, self._plan.min_blocks)
        return Rounds(self._reference_s, self._series, self._openings, self._unsteady,
                      self._repeats)

    def _begin_session(self) -> None:
        for one in self._series:
            one.begin_session()

    def _open(self) -> Tuple[Sequence[Run], float]:
        """Sessions, warm; and how long opening them took, in seconds."""
        before = self._now_s()
        gc.collect()
        runs = self._open_sessions()
        opening_s = self._now_s() - before
        # The machine is warm from the second opening on, only the sessions are cold.
        self._warm(runs, min(self._plan.warmup_s, self._plan.block_s) if self._openings
                   else self._plan.warmup_s)
        return runs, opening_s

    def _warm(self, runs: Sequence[Run], warm_s: float) -> None:
        for index, run in enumerate(runs):
            self._announce(index)
            calls = time_block(run, int(warm_s * NS), self._clock_ns)
            if not self._openings:
                # A sample of several calls would hide what is flushed before each.
                self._repeats.append(1 if self._flush else repeats_for(
                    median(calls), self._tick_ns))
                if self._plan.warmup_max_s > self._plan.warmup_s:
                    self._settle(index, run)
        self._openings += 1

    def _settle(self, index: int, run: Run) -> None:
        """Blocks until their medians keep one level, or until the time for that is over."""
        medians: List[float] = []
        until_s = self._now_s() + self._plan.warmup_max_s - self._plan.warmup_s
        while self._now_s() < until_s:
            self._announce(index)
            medians.append(max(median(self._block(index, run)), 1.0))
            if len(medians) % LEAST == 0 and steady_from(medians) is not None:
                return
        # Fewer blocks tell neither that it is steady nor that it is not.
        if len(medians) >= LEAST:
            self._unsteady.append(index)

    def _block(self, index: int, run: Run) -> List[int]:
        return time_block(run, self._block_ns(), self._clock_ns, self._repeats[index], self._flush)

    def _round(self, runs: Sequence[Run], reverse: bool, previous: Optional[float]) -> float:
        """One round; returns the median of its last reference block."""
        order = list(range(1, len(runs)))
        if reverse:
            order.reverse()
        before = self._reference(runs[0]) if previous is None or not order else previous
        for index in order:
            self._announce(index)
            calls = self._block(index, runs[index])
            after = self._reference(runs[0])
            self._series[index - 1].add(before, calls, after)
            before = after
        return before

    def _reference(self, run: Run) -> float:
        self._announce(0)
        value = median(self._block(0, run)) / NS
        self._reference_s.append(value)
        insort(self._ordered_s, value)
        return value

    def _enough(self, elapsed_s: float) -> bool:
        least_s = self._plan.min_s * max(len(self._series), 1)
        if self._known_level_s is None:
            least_s = max(least_s, self._plan.max_s)
        if elapsed_s < least_s:
            return False
        level = level_of(self._ordered_s, self._known_level_s)
        if level.busy:
            return self._hopeless(0, elapsed_s)
        if not self._series:
            limit = level.gate_s * (1 + self._plan.gate)
            return sum(value <= limit for value in self._ordered_s) >= self._plan.min_blocks
        fewest = min(sum(quiet(one, level.gate_s, self._plan.gate)) for one in self._series)
        return fewest >= self._plan.min_blocks or self._hopeless(fewest, elapsed_s)

    def _hopeless(self, quiet_blocks: int, elapsed_s: float) -> bool:
        """Whether the machine is so busy that another time is better. Not while the device's
        level is being learnt: then the longest look is the best."""
        share = elapsed_s / (self._plan.max_s * max(len(self._series), 1))
        return (self._known_level_s is not None and share >= GIVE_UP_FROM
                and quiet_blocks < share * self._plan.min_blocks * GIVE_UP_BELOW)

    def _block_ns(self) -> int:
        return int(self._plan.block_s * NS)

    def _now_s(self) -> float:
        return self._clock_ns() / NS
