"""Paired timing: blocks of each candidate between blocks of the reference, which gate them.

A shared machine drifts by tens of percent within seconds and slows different code differently.
Candidates and reference therefore alternate within milliseconds, and a block of a candidate counts
only if both adjacent reference blocks ran at the reference's quiet level.

    round 0:  R c1 R c2 R c3 R          R: a block of the reference, at least one call;
    round 1:  R c3 R c2 R c1 R             calls begin for block_s seconds

Neighbouring candidates share the R between them. Neighbouring rounds share theirs too, unless the
sessions were reopened in between: the placement in memory is a property of a session, and a
measurement in one session would include it. A call that is short against the clock tick is
repeated, and a sample is the mean. The first warm-up ends when ``changepoints`` finds a steady
state, or after ``warmup_max_s``.

The clock (nanoseconds) and the sessions are arguments, so that tests can simulate both.
"""

import gc
from bisect import insort
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from agents.protocol import Blocks, MeasurePlan
from agents.timing.calls import (
    NS,
    Run,
    cache_flusher,
    median,
    repeats_per_sample,
    tick_ns,
    time_block,
)
from agents.timing.changepoints import MIN_STEADY_BLOCKS, steady_start

LEVEL_SHARE = 0.05
"""The quiet level is this quantile of the reference's block medians."""
BUSY_FACTOR = 1.2
"""A job is busy if its own quiet level exceeds the known one by more than this factor."""
REOPENING_SHARE = 0.1
"""Largest fraction of the time spent on reopening sessions."""
GIVE_UP_FROM, GIVE_UP_BELOW = 0.25, 0.5
"""After the first fraction of its time, a job stops early if it has less than the second fraction
of the quiet blocks that it should have by then."""


class QuietLevel(NamedTuple):
    """Seconds per call: ``gate_s`` gates the blocks, ``own_s`` is the level of this job alone.
    ``busy``: the job's level is too far above the known one."""

    gate_s: float
    own_s: float
    busy: bool


class BlocksVerdict(NamedTuple):
    """``valid``, or ``invalid`` with reasons; ``quiet_blocks`` counts the blocks that passed the
    gate."""

    verdict: str
    reasons: List[str]
    quiet_blocks: int


class BlockSeries:
    """The blocks of one candidate: medians in seconds per call, single calls in nanoseconds."""

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

    def extend(self, other: "BlockSeries") -> None:
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
    """All blocks of one process. ``series[i]`` belongs to session ``i + 1``, session 0 is the
    reference. ``unsteady`` lists the sessions without a steady state at the end of their warm-up,
    ``repeats[i]`` is the number of calls per sample of session ``i``."""

    reference_s: List[float]
    series: List[BlockSeries]
    openings: int
    unsteady: List[int]
    repeats: List[int]


def quiet_level(ordered_reference_s: Sequence[float], known_s: Optional[float]) -> QuietLevel:
    """The level that gates the blocks. ``ordered_reference_s`` is ascending and not empty.

    It is the lower one of the device's known level and this job's own. The job is busy if its own
    is more than ``BUSY_FACTOR`` times the known level.
    """
    own = ordered_reference_s[int(LEVEL_SHARE * (len(ordered_reference_s) - 1))]
    if known_s is None or known_s >= own:
        return QuietLevel(own, own, False)
    if own > known_s * BUSY_FACTOR:
        return QuietLevel(own, own, True)
    return QuietLevel(known_s, own, False)


def quiet_mask(series: BlockSeries, level_s: float, gate: float) -> List[bool]:
    """Which blocks pass the gate: both reference blocks within ``gate`` of the level."""
    limit = level_s * (1 + gate)
    return [worse <= limit for worse in map(max, series.before_s, series.after_s)]


def blocks_verdict(series: BlockSeries, level: QuietLevel, plan: MeasurePlan) -> BlocksVerdict:
    """Valid with at least ``plan.min_blocks`` quiet blocks, otherwise invalid with ``busy``."""
    count = 0 if level.busy else sum(quiet_mask(series, level.gate_s, plan.gate))
    if count < plan.min_blocks:
        return BlocksVerdict("invalid", ["busy"], count)
    return BlocksVerdict("valid", [], count)


def plan_per_process(plan: MeasurePlan, processes: int) -> MeasurePlan:
    """The part of a plan that one of ``processes`` processes executes."""
    return plan._replace(
        min_blocks=-(-plan.min_blocks // processes), min_s=plan.min_s / processes,
        max_s=plan.max_s / processes, processes=1)


def time_rounds(
    open_sessions: Callable[[], Sequence[Run]],
    plan: MeasurePlan,
    known_level_s: Optional[float],
    clock_ns: Callable[[], int],
    announce: Callable[[int], None],
    first: Optional[Sequence[Run]] = None,
    first_opening_s: float = 0.0,
) -> Rounds:
    """Times rounds until every candidate has its quiet blocks and least time, or time is up.

    ``open_sessions`` opens new sessions, the reference first. ``announce(i)`` is called before
    session ``i`` runs, so that a crash can be attributed to it. ``first`` are sessions that are
    already open, which took ``first_opening_s``. Without candidates only the reference is timed.
    Without a known level the rounds last at least ``max_s``, because the machine may be in a slow
    state for a while, whose level would then be taken for the quiet one.
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
    """The state of ``time_rounds``."""

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
        self._series: List[BlockSeries] = []
        self._openings = 0
        self._unsteady: List[int] = []
        self._repeats: List[int] = []
        self._tick_ns = tick_ns(clock_ns)
        self._flush = cache_flusher(plan.cache_flush_bytes)

    def rounds(self, first: Optional[Sequence[Run]], opening_s: float) -> Rounds:
        if first is None:
            runs, opening_s = self._open()
        else:
            runs = first
            self._warm(runs, self._plan.warmup_s)
        self._series = [BlockSeries() for _ in runs[1:]]
        self._begin_session()
        started = opened = self._now_s()
        previous: Optional[float] = None
        count = check_at = 0
        while True:
            if count and self._now_s() - opened >= max(
                    self._plan.fresh_session_every_s, opening_s / REOPENING_SHARE):
                runs = []  # closes the old sessions before the new ones open
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
                # Counting takes time in proportion to the blocks, so it is done less and less.
                check_at = max(count + 1 + count // 16, self._plan.min_blocks)
        return Rounds(self._reference_s, self._series, self._openings, self._unsteady,
                      self._repeats)

    def _begin_session(self) -> None:
        for one in self._series:
            one.begin_session()

    def _open(self) -> Tuple[Sequence[Run], float]:
        """New sessions after their warm-up, and the seconds that opening them took."""
        before = self._now_s()
        gc.collect()
        runs = self._open_sessions()
        opening_s = self._now_s() - before
        # From the second opening, only the sessions are cold, not the machine.
        self._warm(runs, min(self._plan.warmup_s, self._plan.block_s) if self._openings
                   else self._plan.warmup_s)
        return runs, opening_s

    def _warm(self, runs: Sequence[Run], warm_s: float) -> None:
        for index, run in enumerate(runs):
            self._announce(index)
            calls = time_block(run, int(warm_s * NS), self._clock_ns)
            if not self._openings:
                # A sample of several calls would time only one call after a flush.
                self._repeats.append(1 if self._flush else repeats_per_sample(
                    median(calls), self._tick_ns))
                if self._plan.warmup_max_s > self._plan.warmup_s:
                    self._settle(index, run)
        self._openings += 1

    def _settle(self, index: int, run: Run) -> None:
        """Times blocks until their medians reach a steady state, or until ``warmup_max_s``."""
        medians: List[float] = []
        until_s = self._now_s() + self._plan.warmup_max_s - self._plan.warmup_s
        while self._now_s() < until_s:
            self._announce(index)
            medians.append(max(median(self._block(index, run)), 1.0))
            if len(medians) % MIN_STEADY_BLOCKS == 0 and steady_start(medians) is not None:
                return
        # Too few blocks leave it open whether the session is steady.
        if len(medians) >= MIN_STEADY_BLOCKS:
            self._unsteady.append(index)

    def _block(self, index: int, run: Run) -> List[int]:
        return time_block(run, self._block_ns(), self._clock_ns, self._repeats[index], self._flush)

    def _round(self, runs: Sequence[Run], reverse: bool, previous: Optional[float]) -> float:
        """Times one round; returns the median of its last reference block in seconds."""
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
        level = quiet_level(self._ordered_s, self._known_level_s)
        if level.busy:
            return self._should_give_up(0, elapsed_s)
        if not self._series:
            limit = level.gate_s * (1 + self._plan.gate)
            return sum(value <= limit for value in self._ordered_s) >= self._plan.min_blocks
        fewest = min(sum(quiet_mask(one, level.gate_s, self._plan.gate)) for one in self._series)
        return fewest >= self._plan.min_blocks or self._should_give_up(fewest, elapsed_s)

    def _should_give_up(self, quiet_blocks: int, elapsed_s: float) -> bool:
        """Whether the machine is too busy to reach the plan. False while no level is known: then
        the longest measurement gives the best estimate of it."""
        share = elapsed_s / (self._plan.max_s * max(len(self._series), 1))
        return (self._known_level_s is not None and share >= GIVE_UP_FROM
                and quiet_blocks < share * self._plan.min_blocks * GIVE_UP_BELOW)

    def _block_ns(self) -> int:
        return int(self._plan.block_s * NS)

    def _now_s(self) -> float:
        return self._clock_ns() / NS
