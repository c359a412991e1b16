"""Runs one measurement: the reference and its candidates in child processes, a verdict for each.

    parent    start child .................... reads events, checks the progress .......... verdicts
    child 1         import | open R c1 .. cN | warm-up | R c1 R c2 .. R | R cN .. R | .. | end
                             first call each   warmup_s   block_s each     sessions reopened every
                             (load_s, first_s,                             fresh_session_every_s
                              outputs)
    c2 kills child 1:   failed ["crashed: signal 11"];  child 2 repeats the rest: R c1 c3 .. cN
    c2 hangs:           failed ["timeout"];             child 2 likewise
    processes = k       k such children in turn, their blocks pooled
    memory, energy      then one more child each per candidate, which is alone in it; the parent
                        polls the meters during the energy measurement (energy/window.py)
    nodes               at last one child that times the nodes of each file (child/node_times.py);
                        its failures do not change the measurement

The child writes the running session to shared memory, so that a crash can be attributed. If the
reference fails alone (it is opened first), the job fails. If it fails later, a candidate may be the
cause: the candidates then run one by one, and the one beside which the reference fails is failed.

The parent sleeps in ``select`` and wakes up five times a second.
"""

from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Union

from agents.child.events import (
    Broken,
    End,
    EnergyPhases,
    Event,
    FileRefused,
    MemoryMeasured,
    NodesTimed,
    Opened,
    Ready,
    RoundsTimed,
    parse_event,
)
from agents.child.progress import NO_SESSION
from agents.child.request import ChildRequest
from agents.measurement import verdict
from agents.measurement.child_process import Child, StartChild
from agents.measurement.energy.window import EnergyWindow
from agents.measurement.supervision import (
    LISTEN_S,
    LOAD_BYTES_PER_S,
    START_LIMIT_S,
    JobCancelled,
    JobFailed,
)
from agents.platform.files import NO_SPACE
from agents.protocol import (
    UNKNOWN,
    Blocks,
    EnergyMeasured,
    JsonObject,
    Measured,
    MeasurePayload,
    MeasureResult,
    NodesMeasured,
    decode,
    pack_samples,
)
from agents.timing.blocks import (
    BlockSeries,
    QuietLevel,
    blocks_verdict,
    plan_per_process,
    quiet_level,
    quiet_mask,
)

STEP_LIMIT_S, STEP_LIMIT_FACTOR = 5.0, 3.0
"""Time limit of one step: the larger of the seconds, and of so many times ``max_s``."""


class ChildOutcome(NamedTuple):
    """How a child ended. ``reason`` is None after success; otherwise ``session`` is the session
    that was running, and ``opening`` whether it was being opened for the first time."""

    reason: Optional[str]
    session: int
    opening: bool


def measure(
    payload: Union[MeasurePayload, Mapping[str, object]],
    paths: Mapping[str, str],
    start_child: StartChild,
    clock: Callable[[], float],
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda fraction_done: None,
    watch: Callable[[bool], None] = lambda working: None,
    energy_window: Callable[..., EnergyWindow] = EnergyWindow,
) -> MeasureResult:
    """Measures the candidates of a job of kind ``measure``.

    ``paths`` maps sha256 to a local file. ``clock`` is monotonic seconds, for time limits only; the
    child times the blocks. ``watch(working)`` is called several times a second while a child runs;
    ``working`` is false while it lets the device rest. The result's environment is
    ``{"runtime": versions}``.

    Raises JobFailed, JobCancelled, and ProtocolError for an invalid payload.
    """
    message = payload if isinstance(payload, MeasurePayload) else decode(MeasurePayload, payload)
    return _Measurement(message, paths, start_child, clock, cancelled, progress, watch,
                        energy_window).run()


def step_limit_s(max_s: float, size_bytes: int) -> float:
    """Seconds without progress after which a child counts as hung."""
    return max(STEP_LIMIT_S, STEP_LIMIT_FACTOR * max_s) + size_bytes / LOAD_BYTES_PER_S


class _Measurement:
    def __init__(self, payload: MeasurePayload, paths: Mapping[str, str], start_child: StartChild,
                 clock: Callable[[], float], cancelled: Callable[[], bool],
                 progress: Callable[[float], None], watch: Callable[[bool], None],
                 energy_window: Callable[..., EnergyWindow]) -> None:
        self._payload = payload
        self._files = [payload.reference, *payload.candidates]
        self._paths = [paths[one.sha256] for one in self._files]
        self._start_child = start_child
        self._clock = clock
        self._cancelled = cancelled
        self._progress = progress
        self._watch = watch
        self._device_s = 0.0
        self._doubts: List[str] = []
        self._unsteady: Set[int] = set()
        self._failed: Dict[int, str] = {}
        self._opened: Dict[int, Opened] = {}
        self._series: Dict[int, BlockSeries] = {}
        self._memory: Dict[int, MemoryMeasured] = {}
        self._energy: Dict[int, EnergyMeasured] = {}
        self._nodes: Dict[int, NodesMeasured] = {}
        self._energy_window = energy_window
        self._window: Optional[EnergyWindow] = None
        self._reference_s: List[float] = []
        self._versions: JsonObject = {}

    def run(self) -> MeasureResult:
        plan = self._payload.plan
        alone = [mode for mode,
                 requested in (("memory", plan.memory), ("energy", plan.energy_s > 0))
                 if requested]
        steps = plan.processes + len(self._payload.candidates) * len(alone)
        singly = False
        for process in range(plan.processes):
            singly = self._one_process(singly)
            self._progress((process + 1) / steps)
        done = plan.processes
        for mode in alone:
            for index in self._alive():
                self._alone(mode, index)
                done += 1
                self._progress(done / steps)
        if plan.nodes:
            self._time_nodes([0, *self._alive()])
        return self._result()

    def _time_nodes(self, indexes: Sequence[int]) -> None:
        failed = dict(self._failed)
        try:
            reason = self._run_child("nodes", indexes).reason
        except JobFailed as error:
            reason = str(error)
        self._failed = failed
        for index in indexes:
            self._nodes.setdefault(index, NodesMeasured(
                "not profiled: {}".format(reason or "no node was reported")))

    def _alone(self, mode: str, index: int) -> None:
        if mode != "energy":
            self._run_child(mode, [index])
            return
        self._window = self._energy_window(profile=self._payload.profile or UNKNOWN)
        try:
            opened = self._opened.get(index)
            problem = self._window.problem(opened.provider if opened else "")
            if problem is not None:
                self._energy[index] = EnergyMeasured(problem)
            else:
                self._run_child(mode, [index])
        finally:
            self._window.close()
            self._window = None

    def _one_process(self, singly: bool) -> bool:
        """One process of the plan for all candidates; returns whether they run one by one from
        now."""
        alive = self._alive()
        groups = [[index] for index in alive] if singly else [alive]
        while groups:
            group = groups.pop(0)
            ending = self._run_child("pairs", [0, *group])
            rest = [index for index in group if index not in self._failed]
            if ending.reason is None or (group and not rest):
                continue
            if ending.session == 0:
                if ending.opening or not rest:
                    raise JobFailed(
                        "reference", "The reference failed: {}".format(ending.reason))
                if len(rest) == 1:
                    self._failed[rest[0]] = "{} of the reference beside it".format(ending.reason)
                    continue
                singly = True
                groups[:0] = [[index] for index in rest]
            elif rest:
                groups.insert(0, rest)
        return singly

    def _alive(self) -> List[int]:
        return [index for index in range(1, len(self._files)) if index not in self._failed]

    def _run_child(self, mode: str, indexes: Sequence[int]) -> ChildOutcome:
        """Runs one child from start to end; adds the candidate that ended it to the failed ones."""
        started_s = self._clock()
        try:
            child = self._start_child(self._payload.runtime, self._request(mode, indexes))
        except OSError as error:
            if error.errno in NO_SPACE:
                raise
            raise JobFailed("runtime", "The runtime {!r} cannot be started: {}".format(
                self._payload.runtime, error)) from error
        try:
            ending = self._listen(child)
        finally:
            child.close()
            self._device_s += self._clock() - started_s
        if ending.session == NO_SESSION and ending.reason is not None:
            raise JobFailed("runtime", "The runtime {!r} does not start: {}".format(
                self._payload.runtime, ending.reason))
        if ending.reason is not None and ending.session > 0:
            self._failed[ending.session] = ending.reason
        return ending

    def _request(self, mode: str, indexes: Sequence[int]) -> ChildRequest:
        return ChildRequest(
            mode, list(indexes), [self._paths[index] for index in indexes],
            options=self._payload.options, input_seed=self._payload.input_seed,
            quiet_level_s=self._payload.quiet_level_s,
            plan=plan_per_process(self._payload.plan, self._payload.plan.processes))

    def _listen(self, child: Child) -> ChildOutcome:
        where, since = child.progress(), self._clock()
        while True:
            if self._cancelled():
                raise JobCancelled()
            self._watch(not child.progress().resting)
            if self._window is not None:
                self._window.poll()
            event = child.next_event(self._window.period_s if self._window else LISTEN_S)
            if event is not None:
                since = self._clock()
                ending = self._take(parse_event(event))
                if ending is not None:
                    return ending if ending.session != NO_SESSION else ending._replace(
                        session=child.progress().session)
                continue
            how = child.ended()
            now_at = child.progress()
            if how is not None:
                reason = "crashed: " + how
                if now_at.session == NO_SESSION:
                    reason = "{} {}".format(how, child.last_stderr_line()).strip()
                return ChildOutcome(reason, now_at.session, now_at.opening)
            if now_at != where:
                where, since = now_at, self._clock()
            elif self._clock() - since > self._limit_s(where.session):
                return ChildOutcome("timeout", where.session, where.opening)

    def _limit_s(self, session: int) -> float:
        if session == NO_SESSION:
            return START_LIMIT_S
        return step_limit_s(self._payload.plan.max_s, self._files[session].size_bytes)

    def _take(self, event: Optional[Event]) -> Optional[ChildOutcome]:
        """Stores one event; returns the outcome if the event ends the child."""
        if isinstance(event, Ready):
            self._versions = event.versions
        elif isinstance(event, Opened):
            self._opened.setdefault(event.file, event)
        elif isinstance(event, FileRefused):
            if event.file == 0:
                return ChildOutcome(event.reason, 0, True)
            self._failed[event.file] = event.reason
        elif isinstance(event, RoundsTimed):
            self._pool(event)
        elif isinstance(event, MemoryMeasured):
            self._memory[event.file] = event
        elif isinstance(event, NodesTimed):
            self._nodes[event.file] = event.measured
        elif isinstance(event, EnergyPhases) and self._window is not None:
            self._window.poll()
            self._energy[event.file] = self._window.measured(
                event.phases, self._opened[event.file].provider)
        elif isinstance(event, Broken):
            return ChildOutcome(event.reason, NO_SESSION, False)
        elif isinstance(event, End):
            return ChildOutcome(None, 0, False)
        return None

    def _pool(self, rounds: RoundsTimed) -> None:
        self._reference_s.extend(rounds.reference_s)
        self._doubts += verdict.condition_doubts(
            rounds.conditions, verdict.measuring_thread_computes(
                self._payload.runtime, self._opened[0].provider if 0 in self._opened else ""))
        self._unsteady.update(rounds.unsteady)
        for index, series in rounds.series.items():
            self._series.setdefault(index, BlockSeries()).extend(series)

    def _result(self) -> MeasureResult:
        level = (quiet_level(sorted(self._reference_s), self._payload.quiet_level_s)
                 if self._reference_s else None)
        measured = [self._measured(index, level) for index in range(1, len(self._files))]
        marks = [mark for one in self._series.values() if level is not None
                 for mark in quiet_mask(one, level.gate_s, self._payload.plan.gate)]
        if not self._payload.candidates and level is not None:
            limit = level.gate_s * (1 + self._payload.plan.gate)
            marks = [value <= limit for value in self._reference_s]
        return MeasureResult(
            quiet_level_s=level.gate_s if level else None,
            reference_blocks=len(self._reference_s),
            quiet_share=sum(marks) / len(marks) if marks else 0.0,
            environment={"runtime": self._versions}, measurements=measured,
            device_s=self._device_s, reference_nodes=self._nodes.get(0))

    def _measured(self, index: int, level: Optional[QuietLevel]) -> Measured:
        opened = self._opened.get(index)
        series, reason = self._series.get(index), self._failed.get(index)
        memory = self._memory.get(index)
        outputs = [] if opened is None else [one for one in opened.outputs if one is not None]
        if reason is None and opened is not None and len(outputs) < len(opened.outputs):
            place = opened.outputs.index(None)
            reason = "not finite: the value {} of the outputs".format(place)
        if reason is not None or series is None or level is None:
            state, reasons = "failed", [reason or "not measured"]
            series, outputs = BlockSeries(), []
        else:
            state, reasons, _ = blocks_verdict(series, level, self._payload.plan)
        fallback = verdict.provider_fallback(self._payload.options,
                                             opened.provider if opened else "")
        if state != "failed" and fallback is not None:
            state, reasons = "invalid", [*reasons, fallback]
        measured = Measured(
            sha256=self._files[index].sha256, verdict=state, reasons=reasons,
            load_s=opened.load_s if opened else None, first_s=opened.first_s if opened else None,
            blocks=Blocks(*series.blocks()), samples=pack_samples(series.calls_ns),
            sample_blocks=series.calls_per_block, outputs=outputs,
            provider=opened.provider if opened else "",
            memory_bytes=memory.peak_bytes if memory else None,
            memory_baseline_bytes=memory.baseline_bytes if memory else None,
            energy=self._energy.get(index), session_blocks=series.session_blocks,
            nodes=self._nodes.get(index))
        measured = verdict.with_nodes(measured, self._payload.options, self._payload.plan)
        return verdict.with_doubts(measured, self._doubts_about(index, series, level),
                                   self._payload.plan)

    def _doubts_about(self, index: int, series: BlockSeries,
                      level: Optional[QuietLevel]) -> List[str]:
        if level is None:
            return []
        marks = quiet_mask(series, level.gate_s, self._payload.plan.gate)
        ratios = [2 * own / (before + after) for own, before, after, counts in zip(
            *series.blocks(), marks) if counts]
        unsteady = ["no steady state: {} was still changing after {:g} s of warm-up".format(
            what, self._payload.plan.warmup_max_s)
            for at, what in ((0, "the reference"), (index, "it")) if at in self._unsteady]
        return [*self._doubts, *unsteady, *verdict.reference_doubts(self._reference_s),
                *verdict.ratio_doubts(ratios), *verdict.call_doubts(series.calls_ns)]
