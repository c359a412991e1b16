"""The program of a measuring child: reads one ``ChildRequest``, writes events (``events.py``).

``SharedProgress`` tells the parent which session is running, so that a crash can be attributed. It
is shared memory, which needs no system call between blocks of a few milliseconds.
"""

import json
import math
import os
import signal
import sys
import time
from typing import Dict, List, Mapping, Optional, Sequence

from agents.child.events import series_as_json
from agents.child.progress import OPENING, RESTING, RUNNING, SharedProgress
from agents.child.request import ChildRequest
from agents.meters.memory import MemoryMeter
from agents.platform.conditions import Conditions, conditions_between, conditions_now
from agents.platform.parent_death import exit_with_stdin, parent_has_ended, signal_on_parent_death
from agents.platform.sysfs import SystemTree
from agents.protocol import (
    NOT_PREPARED,
    JsonObject,
    as_json,
    decode,
    pack_bytes,
)
from agents.runtimes import runtime_named
from agents.runtimes.base import (
    PERF_COUNTER_NS,
    ModelRefused,
    NotPrepared,
    Runtime,
    RuntimeUnavailable,
    Session,
)
from agents.timing.blocks import Rounds, time_rounds
from agents.timing.calls import NS, Run
from agents.timing.energy_phases import run_phases

MEMORY_CALLS = 5


def main(runtime_name: str, parent_pid: int) -> int:
    """Serves one request. Reports failures as events; the exit code has no meaning."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the agent, which handles it
    if hasattr(signal, "SIGKILL"):
        signal_on_parent_death(signal.SIGKILL)
    if parent_has_ended(parent_pid, direct=True):
        return 0
    _leave_no_core()
    events = _own_stdout()
    try:
        runtime = runtime_named(runtime_name)
        runtime.versions()  # imports the library before a request arrives
        request = decode(ChildRequest, _first_line())
        exit_with_stdin()
        _RequestHandler(runtime, request, events).serve()
    except RuntimeUnavailable as error:
        _emit(events, {"event": "broken", "reason": str(error)})
    except Exception as error:  # noqa: BLE001 - process boundary: the parent turns it into a result
        _emit(events, {"event": "broken", "reason": "crashed: {}: {}".format(
            type(error).__name__, " ".join(str(error).split())[:300])})
    # Skips the teardown of libraries, which may crash after the result has been sent.
    os._exit(0)


class _RequestHandler:
    def __init__(self, runtime: Runtime, request: ChildRequest, events: int) -> None:
        self._runtime = runtime
        self._request = request
        self._events = events
        self._position = SharedProgress(request.position_descriptor)
        self._open: List[int] = []
        self._first: List[Run] = []
        self._opening_s = 0.0
        self._backwards = False
        runtime.folder = request.folder

    def serve(self) -> None:
        self._emit({"event": "ready", "versions": self._runtime.versions()})
        if self._request.mode == "pairs":
            self._pairs()
        elif self._request.mode == "memory":
            self._memory()
        elif self._request.mode == "energy":
            self._energy()
        elif self._request.mode == "nodes":
            self._nodes()
        elif self._request.mode == "infer":
            self._infer()
        elif self._request.mode == "prepare":
            self._prepare()
        elif self._request.mode == "prove":
            self._prove()
        self._emit({"event": "end"})

    def _pairs(self) -> None:
        if self._request.plan is None:
            raise ValueError("a request for pairs has no plan")
        for place, index in enumerate(self._request.indexes):
            session = self._first_opening(place, index)
            if session is not None:
                self._open.append(place)
                self._first.append(session.run)
            elif place == 0:
                return
        session = None
        tree = SystemTree()
        before = conditions_now(tree)
        rounds = time_rounds(self._reopen, self._request.plan, self._request.quiet_level_s,
                                self._runtime.clock_ns, self._announce, self._first,
                                self._opening_s)
        self._emit(self._as_event(rounds, conditions_between(before, conditions_now(tree))))

    def _memory(self) -> None:
        """Peak memory of one file alone in a fresh process, including the library."""
        meter = MemoryMeter()
        if meter.problem() is not None or not self._runtime.traits.in_process:
            return
        baseline = {one.name: one.value for one in meter.read()}
        index = self._request.indexes[0]
        session = self._first_opening(0, index)
        if session is None:
            return
        for _ in range(MEMORY_CALLS):
            session.run()
        after = {one.name: one.value for one in meter.read()}
        self._emit({"event": "memory", "index": index, "baseline_bytes": int(baseline["rss_bytes"]),
                    "peak_bytes": int(after["peak_bytes"])})

    def _energy(self) -> None:
        """Idle, load and idle phases of one file alone, while the parent polls the meters. Uses the
        system's clock, like the parent, and not the runtime's own."""
        if self._request.plan is None:
            raise ValueError("a request for energy has no plan")
        index = self._request.indexes[0]
        session = self._first_opening(0, index) if self._runtime.traits.in_process else None
        if session is not None:
            phases = run_phases(
                session.run, self._request.plan.energy_s, self._request.plan.idle_s,
                lambda: PERF_COUNTER_NS() / NS, time.sleep,
                lambda working: self._position.write(index, RUNNING if working else RESTING))
            self._emit(dict(phases._asdict(), event="energy", index=index))

    def _nodes(self) -> None:
        from agents.child.node_times import measure_nodes  # timed children do not need it

        for path, index in zip(self._request.paths, self._request.indexes):
            def alive(index: int = index) -> None:
                self._position.write(index, RUNNING)

            alive()
            measured = measure_nodes(self._runtime, path, self._request.options,
                                     self._request.input_seed, alive)
            self._emit(dict(as_json(measured), event="nodes", index=index))

    def _prove(self) -> None:
        self._position.write(0, OPENING)
        try:
            self._runtime.prove(self._request.provider, self._runtime.traits.proof)
        except ModelRefused as error:
            self._emit({"event": "refused", "index": 0, "reason": "refused: {}".format(error)})

    def _prepare(self) -> None:
        index = self._request.indexes[0]
        self._position.write(index, OPENING)
        try:
            done = self._runtime.prepare(self._request.paths[0], self._request.options)
        except ModelRefused as error:
            self._emit({"event": "refused", "index": index, "reason": "refused: {}".format(error)})
            return
        self._emit(dict(done._asdict(), event="prepared", index=index))

    def _infer(self) -> None:
        """The outputs of one file for a whole data set."""
        from agents.child.dataset_inference import infer_dataset

        index = self._request.indexes[0]
        session = self._first_opening(0, index)
        if session is None:
            return

        def began(done: int, of: int) -> None:
            self._position.write(index, RUNNING)
            self._emit({"event": "share", "done": done / of})

        try:
            found = infer_dataset(session, self._request.inputs, self._request.outputs, began)
        except ModelRefused as error:
            self._emit({"event": "refused", "index": index, "reason": "refused: {}".format(error)})
            return
        self._emit({"event": "inferred", "index": index, "outputs": [
            {"name": name, "kind": one.kind, "shape": one.shape, "outputs": pack_bytes(one.content)}
            for name, one in found.items()]})

    def _first_opening(self, place: int, index: int) -> Optional[Session]:
        """Opens a file, calls it once and reports both; None if the file was refused."""
        self._position.write(index, OPENING)
        clock_ns = self._runtime.clock_ns
        try:
            before = clock_ns()
            session = self._session(place)
            opened = clock_ns()
            session.run()
            ran = clock_ns()
            outputs = session.bound_outputs()
        except RuntimeUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - any exception refuses this file, not the others
            text = str(error) if isinstance(error, ModelRefused) else "{}: {}".format(
                type(error).__name__, " ".join(str(error).split())[:300])
            word = NOT_PREPARED if isinstance(error, NotPrepared) else "unloadable"
            self._emit({"event": "refused", "index": index, "reason": word + ": " + text})
            return None
        self._opening_s += (opened - before) / NS
        self._emit({"event": "opened", "index": index, "load_s": (opened - before) / NS,
                    "first_s": (ran - opened) / NS, "provider": session.provider,
                    "outputs": _finite(outputs)})
        return session

    def _reopen(self) -> Sequence[Run]:
        """Reopens all sessions, in alternating order: the session that is opened first has another
        placement in memory, which can make it slower by one or two percent."""
        self._first.clear()  # frees the old sessions before the new ones open
        self._backwards = not self._backwards
        runs: Dict[int, Run] = {}
        for place in reversed(self._open) if self._backwards else self._open:
            self._position.write(self._request.indexes[place], RUNNING)
            runs[place] = self._session(place).run
        return [runs[place] for place in self._open]

    def _session(self, place: int) -> Session:
        return self._runtime.open(
            self._request.paths[place], self._request.options, self._request.input_seed)

    def _announce(self, session: int) -> None:
        self._position.write(self._request.indexes[self._open[session]], RUNNING)

    def _as_event(self, rounds: Rounds, conditions: Conditions) -> JsonObject:
        indexes = [self._request.indexes[place] for place in self._open]
        series = {}
        for place, one in zip(self._open[1:], rounds.series):
            series[str(self._request.indexes[place])] = series_as_json(one)
        return {"event": "rounds", "reference_s": rounds.reference_s, "series": series,
                "openings": rounds.openings, "conditions": dict(conditions._asdict()),
                "unsteady": [indexes[session] for session in rounds.unsteady],
                "repeats": {str(index): count for index, count in zip(indexes, rounds.repeats)}}

    def _emit(self, event: Mapping[str, object]) -> None:
        _emit(self._events, event)


def _finite(values: Sequence[float]) -> List[Optional[float]]:
    """``values`` with null instead of NaN and infinity, which JSON lacks."""
    return [value if math.isfinite(value) else None for value in values]


def _emit(events: int, event: Mapping[str, object]) -> None:
    rest = json.dumps(event, allow_nan=False).encode("ascii") + b"\n"
    while rest:
        rest = rest[os.write(events, rest):]


def _leave_no_core() -> None:
    """Disables core dumps: a crash is a result here, and its core would fill the device's disk."""
    try:
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, ValueError, OSError):
        pass  # a system without resource limits


def _own_stdout() -> int:
    """Reserves stdout for events and redirects the output of libraries to stderr."""
    events = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return events


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            os._exit(0)
        line += piece
    return line
