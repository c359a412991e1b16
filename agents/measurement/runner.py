"""One measurement: the reference and its candidates in child processes, a verdict for each.

    parent    start child ......................... listens, looks at the position ........ judge
    child 1         import | open R c1 .. cN | warm-up | R c1 R c2 .. R | R cN .. R | .. | end
                             first call each   warmup_s   block_s each     fresh sessions every
                             (load_s, first_s,            (pairing.py)     fresh_session_every_s
                              outputs)
    c2 kills child 1:   failed ["crashed: signal 11"];  child 2 does the rest anew: R c1 c3 .. cN
    c2 says nothing:    failed ["timeout"];             child 2 likewise
    processes = k       k such children one after another, their blocks pooled
    memory, energy      then one more child each for every candidate, which is alone in it; while it
                        has its energy measured the parent polls the meters (energy_window.py)
    nodes               at last one child in which each file has its nodes timed (node_times.py);
                        what fails there leaves the measurement as it is

Whom to blame is in memory shared with the child. When the reference dies where it is alone (when
opened, always first), the job has failed. When it dies later, a candidate may have broken it: the
candidates then go one by one, and one beside which the reference dies is the culprit.

The parent sleeps in ``select`` meanwhile and wakes five times a second.
"""

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Union

from agents.child.progress import NOBODY
from agents.measurement import verdict
from agents.measurement.child_process import Child, StartChild
from agents.measurement.energy.window import EnergyWindow
from agents.platform.conditions import conditions_of
from agents.platform.files import NO_SPACE
from agents.protocol import (
    UNKNOWN,
    Blocks,
    EnergyMeasured,
    Measured,
    MeasurePayload,
    MeasureResult,
    NodesMeasured,
    decode,
    pack_samples,
    unpack_samples,
)
from agents.timing.blocks import Level, Series, judge, level_of, quiet, share

LISTEN_S = 0.2
START_LIMIT_S = 120.0
"""Importing a runtime on a slow card may take a minute."""
STEP_LIMIT_S = 5.0
STEP_LIMIT_SHARE = 3.0
LOAD_BYTES_PER_S = 10e6


class MeasurementFailed(Exception):
    """The job as a whole gives nothing; ``reason`` is one short stable word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Cancelled(Exception):
    """``cancelled()`` said so; the child has been killed."""


class Opened(NamedTuple):
    """How the first opening went; ``outputs`` has None for what is not finite."""

    load_s: float
    first_s: float
    provider: str
    outputs: List[Optional[float]]


class Memory(NamedTuple):
    peak_bytes: int
    baseline_bytes: int


class Ending(NamedTuple):
    """How a child ended: ``reason`` is None for a good end; otherwise ``blamed`` was at work."""

    reason: Optional[str]
    blamed: int
    opening: bool


def measure(
    payload: Union[MeasurePayload, Dict[str, Any]],
    paths: Mapping[str, str],
    start_child: StartChild,
    clock: Callable[[], float],
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda share_done: None,
    watch: Callable[[bool], None] = lambda working: None,
    energy_window: Callable[..., EnergyWindow] = EnergyWindow,
) -> MeasureResult:
    """Runs one job of kind ``measure``.

    ``paths`` maps sha256 to a local file, ``clock`` is monotonic seconds (for time limits only;
    the blocks are timed in the child). ``watch`` is called several times a second while a child
    runs, and told whether it works or lets the device rest. The result's environment holds
    ``{"runtime": versions}``.
    Raises MeasurementFailed, Cancelled, and ProtocolError for a payload that is none.
    """
    asked = payload if isinstance(payload, MeasurePayload) else decode(MeasurePayload, payload)
    return _Measurement(asked, paths, start_child, clock, cancelled, progress, watch,
                        energy_window).run()


def step_limit_s(max_s: float, size_bytes: int) -> float:
    """Longest silence of a child at one session before it counts as hung."""
    return max(STEP_LIMIT_S, STEP_LIMIT_SHARE * max_s) + size_bytes / LOAD_BYTES_PER_S


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
        self._series: Dict[int, Series] = {}
        self._memory: Dict[int, Memory] = {}
        self._energy: Dict[int, EnergyMeasured] = {}
        self._nodes: Dict[int, NodesMeasured] = {}
        self._energy_window = energy_window
        self._window: Optional[EnergyWindow] = None
        self._reference_s: List[float] = []
        self._versions: Dict[str, Any] = {}

    def run(self) -> MeasureResult:
        plan = self._payload.plan
        alone = [mode for mode, asked in (("memory", plan.memory), ("energy", plan.energy_s > 0))
                 if asked]
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
            reason = self._attend("nodes", indexes).reason
        except MeasurementFailed as error:
            reason = str(error)
        self._failed = failed
        for index in indexes:
            self._nodes.setdefault(index, NodesMeasured(
                "not profiled: {}".format(reason or "nothing was told")))

    def _alone(self, mode: str, index: int) -> None:
        if mode != "energy":
            self._attend(mode, [index])
            return
        self._window = self._energy_window(profile=self._payload.profile or UNKNOWN)
        try:
            opened = self._opened.get(index)
            problem = self._window.problem(opened.provider if opened else "")
            if problem is not None:
                self._energy[index] = EnergyMeasured(problem)
            else:
                self._attend(mode, [index])
        finally:
            self._window.close()
            self._window = None

    def _one_process(self, singly: bool) -> bool:
        """Every candidate once through the rounds; returns whether they go one by one now."""
        alive = self._alive()
        groups = [[index] for index in alive] if singly else [alive]
        while groups:
            group = groups.pop(0)
            ending = self._attend("pairs", [0, *group])
            rest = [index for index in group if index not in self._failed]
            if ending.reason is None or (group and not rest):
                continue
            if ending.blamed == 0:
                if ending.opening or not rest:
                    raise MeasurementFailed(
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

    def _attend(self, mode: str, indexes: Sequence[int]) -> Ending:
        """One child from start to end; whom it blames is entered among the failed."""
        started_s = self._clock()
        try:
            child = self._start_child(self._payload.runtime, self._request(mode, indexes))
        except OSError as error:
            if error.errno in NO_SPACE:
                raise
            raise MeasurementFailed("runtime", "The runtime {!r} cannot be started: {}".format(
                self._payload.runtime, error)) from error
        try:
            ending = self._listen(child)
        finally:
            child.close()
            self._device_s += self._clock() - started_s
        if ending.blamed == NOBODY and ending.reason is not None:
            raise MeasurementFailed("runtime", "The runtime {!r} does not start: {}".format(
                self._payload.runtime, ending.reason))
        if ending.reason is not None and ending.blamed > 0:
            self._failed[ending.blamed] = ending.reason
        return ending

    def _request(self, mode: str, indexes: Sequence[int]) -> Dict[str, Any]:
        plan = share(self._payload.plan, self._payload.plan.processes)
        return {
            "mode": mode, "indexes": list(indexes),
            "paths": [self._paths[index] for index in indexes],
            "options": self._payload.options, "plan": plan._asdict(),
            "quiet_level_s": self._payload.quiet_level_s, "input_seed": self._payload.input_seed,
        }

    def _listen(self, child: Child) -> Ending:
        where, since = child.where(), self._clock()
        while True:
            if self._cancelled():
                raise Cancelled()
            self._watch(not child.where().resting)
            if self._window is not None:
                self._window.poll()
            event = child.next_event(self._window.period_s if self._window else LISTEN_S)
            if event is not None:
                since = self._clock()
                ending = self._take(event)
                if ending is not None:
                    return ending if ending.blamed != NOBODY else ending._replace(
                        blamed=child.where().session)
                continue
            how = child.ended()
            now_at = child.where()
            if how is not None:
                reason = "crashed: " + how
                if now_at.session == NOBODY:
                    reason = "{} {}".format(how, child.last_words()).strip()
                return Ending(reason, now_at.session, now_at.opening)
            if now_at != where:
                where, since = now_at, self._clock()
            elif self._clock() - since > self._limit_s(where.session):
                return Ending("timeout", where.session, where.opening)

    def _limit_s(self, session: int) -> float:
        if session == NOBODY:
            return START_LIMIT_S
        return step_limit_s(self._payload.plan.max_s, self._files[session].size_bytes)

    def _take(self, event: Dict[str, Any]) -> Optional[Ending]:
        """Enters one event; the ending, when the event is one."""
        kind = event.get("event")
        if kind == "ready":
            self._versions = dict(event["versions"])
        elif kind == "opened":
            self._opened.setdefault(int(event["index"]), Opened(
                float(event["load_s"]), float(event["first_s"]), str(event["provider"]),
                list(event["outputs"])))
        elif kind == "refused":
            if int(event["index"]) == 0:
                return Ending(str(event["reason"]), 0, True)
            self._failed[int(event["index"])] = str(event["reason"])
        elif kind == "rounds":
            self._pool(event)
        elif kind == "memory":
            self._memory[int(event["index"])] = Memory(
                int(event["peak_bytes"]), int(event["baseline_bytes"]))
        elif kind == "nodes":
            self._nodes[int(event["index"])] = decode(NodesMeasured, event)
        elif kind == "energy" and self._window is not None:
            self._window.poll()
            index = int(event["index"])
            self._energy[index] = self._window.measured(event, self._opened[index].provider)
        elif kind == "broken":
            return Ending(str(event["reason"]), NOBODY, False)
        elif kind == "end":
            return Ending(None, 0, False)
        return None

    def _pool(self, event: Dict[str, Any]) -> None:
        self._reference_s.extend(event["reference_s"])
        self._doubts += verdict.of_conditions(
            conditions_of(event.get("conditions", {})),
            verdict.computes_here(
                self._payload.runtime, self._opened[0].provider if 0 in self._opened else ""))
        self._unsteady.update(event.get("unsteady", []))
        for key, blocks in event["series"].items():
            one = Series()
            one.candidate_s, one.before_s = blocks["candidate_s"], blocks["before_s"]
            one.after_s, one.calls_per_block = blocks["after_s"], blocks["sample_blocks"]
            one.calls_ns = unpack_samples(blocks["samples"])
            one.session_blocks = blocks.get("session_blocks", [])
            self._series.setdefault(int(key), Series()).extend(one)

    def _result(self) -> MeasureResult:
        level = (level_of(sorted(self._reference_s), self._payload.quiet_level_s)
                 if self._reference_s else None)
        measured = [self._measured(index, level) for index in range(1, len(self._files))]
        marks = [mark for one in self._series.values() if level is not None
                 for mark in quiet(one, level.gate_s, self._payload.plan.gate)]
        if not self._payload.candidates and level is not None:
            limit = level.gate_s * (1 + self._payload.plan.gate)
            marks = [value <= limit for value in self._reference_s]
        return MeasureResult(
            quiet_level_s=level.gate_s if level else None,
            reference_blocks=len(self._reference_s),
            quiet_share=sum(marks) / len(marks) if marks else 0.0,
            environment={"runtime": self._versions}, measurements=measured,
            device_s=self._device_s, reference_nodes=self._nodes.get(0))

    def _measured(self, index: int, level: Optional[Level]) -> Measured:
        opened = self._opened.get(index)
        series, reason = self._series.get(index), self._failed.get(index)
        memory = self._memory.get(index)
        outputs = [] if opened is None else [one for one in opened.outputs if one is not None]
        if reason is None and opened is not None and len(outputs) < len(opened.outputs):
            place = opened.outputs.index(None)
            reason = "not finite: the value {} of the first output".format(place)
        if reason is not None or series is None or level is None:
            state, reasons, series, outputs = "failed", [reason or "not measured"], Series(), []
        else:
            state, reasons, _ = judge(series, level, self._payload.plan)
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

    def _doubts_about(self, index: int, series: Series, level: Optional[Level]) -> List[str]:
        if level is None:
            return []
        marks = quiet(series, level.gate_s, self._payload.plan.gate)
        ratios = [2 * own / (before + after) for own, before, after, counts in zip(
            *series.blocks(), marks) if counts]
        unsteady = ["no steady state: {} was still changing after {:g} s of warm-up".format(
            what, self._payload.plan.warmup_max_s)
            for at, what in ((0, "the reference"), (index, "it")) if at in self._unsteady]
        return [*self._doubts, *unsteady, *verdict.of_reference(self._reference_s),
                *verdict.of_ratios(ratios), *verdict.of_calls(series.calls_ns)]
