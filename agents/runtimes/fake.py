"""A simulated runtime: a model file describes the latency of its calls and how they fail.

Calls move the runtime's own clock, so that a simulated measurement takes almost no real time and is
reproducible. A model file is a JSON object:

    {"fake_model": 1,           required; any other file gets a latency from its size
     "latency_s": 0.0001,       of one call on the quiet machine
     "load_s": 0.002,           of opening
     "outputs": [0.1, 0.9],     of the only output; a constant
     "noise": 0.002,            each call takes up to this fraction longer
     "memory_bytes": 0,         allocated when opened
     "provider": "FakeExecutionProvider",
     "nodes": [["name", "op", "provider", 1e-5, 4096]],    seconds and bytes; default: one node
     "busy": {"share": 0.5, "period_s": 0.2, "factor": 1.4},    periods of a busy machine
     "slowed_by": 1.4,          this model's own factor while the machine is busy
     "crash": {"at": "open", "how": "segv"},    at: "open" or the number of a call, from 1;
                                                how: segv, abort, exit, refuse
     "hang": {"at": 3}}
"""

import json
import os
import random
import signal
import time
from typing import Dict, List, Mapping, NamedTuple, Optional, Union

from agents.protocol import OUTPUT_LIMIT, JsonObject, NodeTime
from agents.runtimes.base import ModelRefused, NotProfiled, Runtime, Session, option
from agents.timing.arrays import FLOAT32, Values, encode

KEYS = {"fake_model", "latency_s", "load_s", "outputs", "noise", "memory_bytes", "provider",
        "nodes", "busy", "slowed_by", "crash", "hang"}
IDLE_CALL_S, IDLE_NODE_S = 8e-6, 1e-6
EXIT_CODE = 3
SHORTEST_NS = 1000.0


class Busy(NamedTuple):
    """The periods of a busy machine: the fraction ``share`` of each is ``factor`` times slower."""

    share: float
    period_s: float
    factor: float = 1.0


class Fault(NamedTuple):
    """When a model hangs or crashes, and how it crashes."""

    at: object = None
    how: str = ""


class FakeModel(NamedTuple):
    """A model file; the fields are those of its JSON object."""

    latency_s: float = 1e-4
    load_s: float = 0.002
    outputs: List[float] = []
    noise: float = 0.002
    memory_bytes: int = 0
    provider: str = "FakeExecutionProvider"
    nodes: Optional[List[NodeTime]] = None
    busy: Optional[Busy] = None
    slowed_by: Optional[float] = None
    crash: Fault = Fault()
    hang: Fault = Fault()


class FakeMachine:
    """A clock in nanoseconds, and a timetable of the periods in which the machine is busy."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.timetable: Optional[Busy] = None

    def busy(self) -> bool:
        if self.timetable is None:
            return False
        period_ns = int(self.timetable.period_s * 1e9)
        return self.now_ns % period_ns < self.timetable.share * period_ns


class FakeSession(Session):
    def __init__(self, machine: FakeMachine, model: FakeModel, batch: int, seed: int,
                 profiled: bool) -> None:
        self.provider = model.provider
        self._machine = machine
        self._model = model
        self._latency_ns = max(model.latency_s * 1e9, SHORTEST_NS) * batch
        self._random = random.Random(seed)
        self._calls = 0
        self._ballast = b"\x01" * model.memory_bytes
        self._profiled = profiled

    def run(self) -> object:
        self._calls += 1
        _fail_as_described(self._model, self._calls)
        latency_ns = self._latency_ns * (1 + self._model.noise * self._random.random())
        if self._machine.timetable is not None and self._machine.busy():
            own = self._model.slowed_by
            latency_ns *= self._machine.timetable.factor if own is None else own
        self._machine.now_ns += int(latency_ns)
        return None

    def bound_outputs(self) -> List[float]:
        self.run()
        return self._model.outputs[:OUTPUT_LIMIT]

    def node_times(self) -> List[NodeTime]:
        if not self._profiled:
            raise NotProfiled("this session was opened without a profiler")
        if self._model.nodes is not None:
            return self._model.nodes
        return [NodeTime("all", "Fake", self.provider, self._latency_ns / 1e9)]

    def outputs(self, feeds: Mapping[str, Values]) -> Dict[str, Values]:
        self.run()
        samples = next(iter(feeds.values())).shape[0]
        constant = self._model.outputs
        return {"output": Values(FLOAT32, [samples, len(constant)],
                                 encode("f", constant) * samples)}


class FakeRuntime(Runtime):
    def __init__(self) -> None:
        self._machine = FakeMachine()

    def versions(self) -> JsonObject:
        return {"fake": "1", "providers": ["FakeExecutionProvider"]}

    def open(self, path: str, options: Mapping[str, object], input_seed: int) -> Session:
        return self._opened(path, options, input_seed, False)

    def open_profiled(self, path: str, options: Mapping[str, object], input_seed: int,
                      folder: str) -> Session:
        return self._opened(path, options, input_seed, True)

    def idle_model(self, nodes: int) -> Optional[bytes]:
        row = [["idle", "Idle", "FakeExecutionProvider", IDLE_NODE_S, None]] * nodes
        return json.dumps({"fake_model": 1, "nodes": row, "noise": 0,
                           "latency_s": IDLE_CALL_S + (nodes - 1) * IDLE_NODE_S}).encode("ascii")

    def _opened(self, path: str, options: Mapping[str, object], input_seed: int,
                profiled: bool) -> Session:
        model = _read(path)
        batch = option(options, "batch", 1)
        _fail_as_described(model, "open")
        if model.busy is not None:
            self._machine.timetable = model.busy
        self._machine.now_ns += int(model.load_s * 1e9)
        return FakeSession(self._machine, model, batch, input_seed, profiled)

    def prove(self, provider: str, model: bytes) -> None:
        if provider != "FakeExecutionProvider":
            raise ModelRefused("There is no {} on this device.".format(provider))

    def clock_ns(self) -> int:
        return self._machine.now_ns


RUNTIME = FakeRuntime


def _read(path: str) -> FakeModel:
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise ModelRefused("The file cannot be read: {}".format(error)) from error
    if not content:
        raise ModelRefused("The file {} is empty.".format(os.path.basename(path)))
    try:
        model = json.loads(content.decode("utf-8"))
    except ValueError:
        model = None
    if not isinstance(model, dict) or "fake_model" not in model:
        return FakeModel(latency_s=2e-5 + 5e-11 * len(content))
    unknown = sorted(set(model) - KEYS)
    if unknown:
        raise ModelRefused("Unknown key {!r} in the fake model; known: {}.".format(
            unknown[0], ", ".join(sorted(KEYS))))
    return _parsed(model)


def _parsed(content: Mapping[str, object]) -> FakeModel:
    default = FakeModel()
    return FakeModel(
        latency_s=_number(content, "latency_s", default.latency_s),
        load_s=_number(content, "load_s", default.load_s),
        outputs=[_as_number("outputs", value) for value in _items(content, "outputs")],
        noise=_number(content, "noise", default.noise),
        memory_bytes=int(_number(content, "memory_bytes", default.memory_bytes)),
        provider=str(content.get("provider", default.provider)),
        nodes=[_node(row) for row in _items(content, "nodes")] if "nodes" in content else None,
        busy=_busy(_fields(content, "busy")),
        slowed_by=_number(content, "slowed_by", 1.0) if "slowed_by" in content else None,
        crash=_fault(_fields(content, "crash")),
        hang=_fault(_fields(content, "hang")))


def _node(row: object) -> NodeTime:
    if not isinstance(row, list) or len(row) != 5:
        raise ModelRefused("A node of the fake model must be [name, op, provider, seconds, "
                           "bytes], got {!r}.".format(row))
    name, op, provider, time_s, moved = row
    return NodeTime(str(name), str(op), str(provider), _as_number("nodes", time_s),
                    moved_bytes=None if moved is None else int(_as_number("nodes", moved)))


def _busy(content: Mapping[str, object]) -> Optional[Busy]:
    return Busy(_number(content, "share", 0.0), _number(content, "period_s", 1.0),
                _number(content, "factor", 1.0)) if content else None


def _fault(content: Mapping[str, object]) -> Fault:
    return Fault(content.get("at"), str(content.get("how", "")))


def _number(content: Mapping[str, object], name: str, default: float) -> float:
    return _as_number(name, content.get(name, default))


def _as_number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ModelRefused("The key {!r} of the fake model needs a number, got {!r}.".format(
            name, value))
    return float(value)


def _items(content: Mapping[str, object], name: str) -> List[object]:
    value = content.get(name, [])
    if not isinstance(value, list):
        raise ModelRefused("The key {!r} of the fake model needs a list, got {!r}.".format(
            name, value))
    return value


def _fields(content: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = content.get(name) or {}
    if not isinstance(value, dict):
        raise ModelRefused("The key {!r} of the fake model needs an object, got {!r}.".format(
            name, value))
    return value


def _fail_as_described(model: FakeModel, moment: Union[int, str]) -> None:
    if model.hang.at == moment:
        while True:
            time.sleep(3600)
    if model.crash.at != moment:
        return
    if model.crash.how == "refuse":
        raise ModelRefused("this fake model refuses")
    if model.crash.how == "exit":
        os._exit(EXIT_CODE)
    if model.crash.how == "abort":
        os.abort()
    os.kill(os.getpid(), signal.SIGSEGV)
