"""A simulated runtime: a model file describes the latency of its calls and how they fail.

Calls move the runtime's own clock, so that a simulated measurement takes almost no real time and is
reproducible. A model file is a JSON object:

    {"fake_model": 1,           required; any other file gets a latency from its size
     "latency_s": 0.0001,       of one call on the quiet machine
     "load_s": 0.002,           of opening
     "outputs": [0.1, 0.9],     of the first output; a constant
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
import struct
import time
from typing import Dict, List, Optional, Sequence, Tuple, Union

from agents.protocol import OUTPUT_LIMIT, JsonObject, NodeTime
from agents.runtimes.base import ModelRefused, NotProfiled, Runtime, Session, option

KEYS = {"fake_model", "latency_s", "load_s", "outputs", "noise", "memory_bytes", "provider",
        "nodes", "busy", "slowed_by", "crash", "hang"}
IDLE_CALL_S, IDLE_NODE_S = 8e-6, 1e-6
EXIT_CODE = 3
SHORTEST_NS = 1000.0


class FakeMachine:
    """A clock in nanoseconds, and a timetable of the periods in which the machine is busy."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.timetable: Optional[Dict[str, float]] = None

    def busy(self) -> bool:
        if self.timetable is None:
            return False
        period_ns = int(self.timetable["period_s"] * 1e9)
        return self.now_ns % period_ns < self.timetable["share"] * period_ns


class FakeSession(Session):
    def __init__(self, machine: FakeMachine, model: JsonObject, batch: int, seed: int,
                 profiled: bool) -> None:
        self.provider = str(model.get("provider", "FakeExecutionProvider"))
        self._machine = machine
        self._model = model
        self._latency_ns = max(float(model.get("latency_s", 1e-4)) * 1e9, SHORTEST_NS) * batch
        self._noise = float(model.get("noise", 0.002))
        self._random = random.Random(seed)
        self._calls = 0
        self._ballast = b"\x01" * int(model.get("memory_bytes", 0))
        self._profiled = profiled

    def run(self) -> object:
        self._calls += 1
        _fail_as_described(self._model, self._calls)
        latency_ns = self._latency_ns * (1 + self._noise * self._random.random())
        if self._machine.busy():
            factor = (self._machine.timetable or {}).get("factor", 1.0)
            latency_ns *= float(self._model.get("slowed_by", factor))
        self._machine.now_ns += int(latency_ns)
        return None

    def first_output(self) -> List[float]:
        self.run()
        return [float(value) for value in self._model.get("outputs", [])][:OUTPUT_LIMIT]

    def node_times(self) -> List[NodeTime]:
        if not self._profiled:
            raise NotProfiled("this session was opened without a profiler")
        default = [["all", "Fake", self.provider, self._latency_ns / 1e9, None]]
        return [NodeTime(name, op, provider, time_s, moved_bytes=moved)
                for name, op, provider, time_s, moved in self._model.get("nodes", default)]

    def outputs(self, values: bytes, shape: Sequence[int]) -> Tuple[bytes, List[int]]:
        self.run()
        constant = [float(value) for value in self._model.get("outputs", [])]
        return struct.pack("<{}f".format(len(constant)), *constant) * shape[0], [
            shape[0], len(constant)]


class FakeRuntime(Runtime):
    def __init__(self) -> None:
        self._machine = FakeMachine()

    def versions(self) -> JsonObject:
        return {"fake": "1", "providers": ["FakeExecutionProvider"]}

    def open(self, path: str, options: JsonObject, input_seed: int) -> Session:
        return self._opened(path, options, input_seed, False)

    def open_profiled(self, path: str, options: JsonObject, input_seed: int,
                      folder: str) -> Session:
        return self._opened(path, options, input_seed, True)

    def idle_model(self, nodes: int) -> Optional[bytes]:
        row = [["idle", "Idle", "FakeExecutionProvider", IDLE_NODE_S, None]] * nodes
        return json.dumps({"fake_model": 1, "nodes": row, "noise": 0,
                           "latency_s": IDLE_CALL_S + (nodes - 1) * IDLE_NODE_S}).encode("ascii")

    def _opened(self, path: str, options: JsonObject, input_seed: int,
                profiled: bool) -> Session:
        model = _read(path)
        batch = option(options, "batch", 1)
        _fail_as_described(model, "open")
        if model.get("busy"):
            self._machine.timetable = model["busy"]
        self._machine.now_ns += int(float(model.get("load_s", 0.002)) * 1e9)
        return FakeSession(self._machine, model, batch, input_seed, profiled)

    def prove(self, provider: str, model: bytes) -> None:
        if provider != "FakeExecutionProvider":
            raise ModelRefused("There is no {} on this device.".format(provider))

    def clock_ns(self) -> int:
        return self._machine.now_ns


RUNTIME = FakeRuntime


def _read(path: str) -> JsonObject:
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
        return {"latency_s": 2e-5 + 5e-11 * len(content)}
    unknown = sorted(set(model) - KEYS)
    if unknown:
        raise ModelRefused("Unknown key {!r} in the fake model; known: {}.".format(
            unknown[0], ", ".join(sorted(KEYS))))
    return model


def _fail_as_described(model: JsonObject, moment: Union[int, str]) -> None:
    if (model.get("hang") or {}).get("at") == moment:
        while True:
            time.sleep(3600)
    crash = model.get("crash") or {}
    if crash.get("at") != moment:
        return
    if crash.get("how") == "refuse":
        raise ModelRefused("this fake model refuses")
    if crash.get("how") == "exit":
        os._exit(EXIT_CODE)
    if crash.get("how") == "abort":
        os.abort()
    os.kill(os.getpid(), signal.SIGSEGV)
