"""TensorRT by its command line program ``trtexec``, 8.2 (JetPack 4.6) or newer.

    prepare   trtexec --onnx --saveEngine --timingCacheFile ...    builds an engine; one inference
    open      trtexec --loadEngine --exportTimes, one inference    times loading and the first call
    run       the next latency of trtexec --loadEngine --exportTimes over LAUNCH_S; a new launch
              when all are used
    outputs   trtexec --loadEngine --loadInputs --exportOutput

The latencies that trtexec reports (host to device, kernels, device to host) move the runtime's own
clock. Reference and candidate therefore alternate by launches, not within milliseconds. Only flags
common to 8.2 and 10 are used (no --buildOnly, no --workspace). Not tested on hardware: the tests
use a script that behaves as documented.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections import deque
from typing import (
    Callable,
    Deque,
    List,
    Mapping,
    NamedTuple,
    Sequence,
    Set,
    Tuple,
    TypeVar,
)

from agents.platform.parent_death import signal_on_parent_death
from agents.protocol import OUTPUT_LIMIT, JsonObject
from agents.runtimes.base import (
    ModelRefused,
    NotPrepared,
    Prepared,
    Runtime,
    RuntimeUnavailable,
    Session,
    input_values,
    option,
)
from agents.runtimes.engines import EngineStore
from agents.runtimes.onnx_signature import FLOAT, InvalidOnnx, TensorSignature, model_signature
from agents.timing.dataset import decode_float32

JETSON = "/usr/src/tensorrt/bin/trtexec"
PROVIDER = "TensorrtExecutionProvider"
PRECISIONS = {"float32": ["--noTF32"], "float16": ["--fp16"], "int8": ["--int8"],
              "best": ["--best"]}
"""int8 is for files with QuantizeLinear: without calibration trtexec uses arbitrary ranges."""
LAUNCH_S, LAUNCH_WARM_MS = 0.25, 200
LAUNCH_LIMIT_S, BUILD_LIMIT_S = 120.0, 3600.0
ONCE = ["--warmUp=0", "--duration=0", "--iterations=1"]
_VERSION = re.compile(r"\[TensorRT v(\d+)\]")
_ERROR = re.compile(r"\[E\] (.*)")


E = TypeVar("E")


class QueryTimes(NamedTuple):
    """One query in the file of ``--exportTimes``."""

    start_ms: float
    latency_ms: float


class OutputValues(NamedTuple):
    """One output in the file of ``--exportOutput``; its values may be NaN."""

    name: str
    shape: List[int]
    values: List[float]


class Model(NamedTuple):
    """A model file's engine, its one input ``source`` with its ``shape``, and its first output
    ``target``. ``dynamic``: the input has a symbolic size."""

    engine: str
    source: TensorSignature
    target: str
    shape: List[int]
    dynamic: bool

    def words(self) -> List[str]:
        shapes = ["--shapes={}".format(shape_word(self.source.name, self.shape))]
        return ["--loadEngine=" + self.engine, *(shapes if self.dynamic else [])]


class TrtexecSession(Session):
    provider = PROVIDER

    def __init__(self, runtime: "TrtexecRuntime", model: Model, input_seed: int) -> None:
        self._runtime, self._model, self._seed = runtime, model, input_seed
        self._latencies_ns: Deque[int] = deque()
        self.batch = model.shape[0]

    def begin(self) -> None:
        """Runs one inference, which tests the engine; its latency is that of the first call."""
        self._latencies_ns.extend(self._runtime.latencies_ns(self._model, ONCE, 0))

    def run(self) -> object:
        if not self._latencies_ns:
            self._latencies_ns.extend(self._runtime.latencies_ns(self._model, [
                "--warmUp={}".format(LAUNCH_WARM_MS), "--duration={:g}".format(LAUNCH_S),
                "--iterations=1"], LAUNCH_WARM_MS))
        self._runtime.now_ns += self._latencies_ns.popleft()
        return None

    def first_output(self) -> List[float]:
        count = 1
        for size in self._model.shape:
            count *= size
        content, _ = self.outputs(
            _packed(input_values(count, self._seed)), self._model.shape)
        return list(decode_float32(content)[:OUTPUT_LIMIT])

    def outputs(self, values: bytes, shape: Sequence[int]) -> Tuple[bytes, List[int]]:
        if list(shape) != self._model.shape:
            raise ModelRefused("The engine is for inputs of shape {}, not {}.".format(
                self._model.shape, list(shape)))
        return self._runtime.outputs(self._model, values)


class TrtexecRuntime(Runtime):
    def __init__(self) -> None:
        self.now_ns = 0
        self._version = ""
        self._proven: Set[str] = set()

    def versions(self) -> JsonObject:
        if not self._version:
            found = _VERSION.search(_launched(["--help"], LAUNCH_LIMIT_S, check=False))
            if found is None:
                raise RuntimeUnavailable(
                    "{} does not print a version of TensorRT.".format(program()))
            self._version = found.group(1)
        return {"trtexec": self._version, "providers": [PROVIDER]}

    def clock_ns(self) -> int:
        return self.now_ns

    def prove(self, provider: str, model: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "proof.onnx")
            with open(path, "wb") as stream:
                stream.write(model)
            _launched(["--onnx=" + path, *ONCE], BUILD_LIMIT_S)

    def prepare(self, path: str, options: Mapping[str, object]) -> Prepared:
        engines = self._engines()
        model = self._model(path, options, engines)
        if engines.has(model.engine):
            return Prepared(0.0, True, os.path.getsize(model.engine))
        partial = model.engine + ".new"
        shapes = ["--optShapes=" + shape_word(model.source.name, model.shape)]
        began_s = time.monotonic()
        _launched(["--onnx=" + path, "--saveEngine=" + partial,
                   "--timingCacheFile=" + engines.timing_cache(), *_precision(options),
                   *(shapes if model.dynamic else []), *ONCE], BUILD_LIMIT_S)
        took_s = time.monotonic() - began_s
        if not os.path.exists(partial):
            raise ModelRefused("trtexec succeeded but left no engine.")
        return Prepared(took_s, False, engines.keep(partial, model.engine))

    def open(self, path: str, options: Mapping[str, object], input_seed: int) -> Session:
        engines = self._engines()
        model = self._model(path, options, engines)
        if not engines.has(model.engine):
            raise NotPrepared("No engine of this file with these options is stored on the device: "
                              "run a job of kind 'prepare' first.")
        session = TrtexecSession(self, model, input_seed)
        if model.engine not in self._proven:
            began_s = time.monotonic()
            session.begin()
            self.now_ns += int((time.monotonic() - began_s) * 1e9)
            self._proven.add(model.engine)
        return session

    def latencies_ns(self, model: Model, words: Sequence[str], warm_ms: float) -> List[int]:
        """The latencies of all queries after the warm-up, from trtexec's timing trace."""
        with tempfile.TemporaryDirectory() as folder:
            trace = os.path.join(folder, "times.json")
            _launched([*model.words(), *words, "--exportTimes=" + trace], LAUNCH_LIMIT_S)
            found = [max(int(one.latency_ms * 1e6), 1) for one in _read_list(trace, _query)
                     if one.start_ms >= warm_ms]
        if not found:
            raise ModelRefused("trtexec timed no query.")
        return found

    def outputs(self, model: Model, values: bytes) -> Tuple[bytes, List[int]]:
        with tempfile.TemporaryDirectory() as folder:
            source, target = os.path.join(folder, "input.bin"), os.path.join(folder, "output.json")
            with open(source, "wb") as stream:
                stream.write(values)
            _launched([*model.words(), *ONCE, "--loadInputs={}:{}".format(
                model.source.name, source), "--exportOutput=" + target], LAUNCH_LIMIT_S)
            found = [one for one in _read_list(target, _output)
                     if one.name == model.target]
        if not found:
            raise ModelRefused("trtexec reported no output {!r}.".format(model.target))
        return _packed(found[0].values), found[0].shape

    def _engines(self) -> EngineStore:
        if self.folder is None:
            raise ModelRefused("No folder for engines is set.")
        return EngineStore(self.folder, str(self.versions()["trtexec"]))

    def _model(self, path: str, options: Mapping[str, object], engines: EngineStore) -> Model:
        batch = option(options, "batch", 1)
        _precision(options)
        try:
            with open(path, "rb") as stream:
                ports = model_signature(stream.read())
            engine = engines.path(path, {"batch": batch, "precision": options.get("precision")})
        except (InvalidOnnx, OSError) as error:
            raise ModelRefused(str(error)) from error
        if len(ports.inputs) != 1 or not ports.outputs or ports.inputs[0].kind != FLOAT:
            raise ModelRefused("The model must have exactly one float32 input; it has {}.".format(
                ", ".join("{} of kind {}".format(one.name, one.kind) for one in ports.inputs)))
        source = ports.inputs[0]
        return Model(engine, source, ports.outputs[0].name,
                     [size or batch for size in source.shape], None in source.shape)


RUNTIME = TrtexecRuntime


def program() -> str:
    """The path of trtexec. Raises RuntimeUnavailable."""
    found = shutil.which("trtexec") or (JETSON if os.access(JETSON, os.X_OK) else None)
    if found is None:
        raise RuntimeUnavailable("There is no trtexec in PATH nor at {}: install TensorRT, which "
                                 "JetPack has.".format(JETSON))
    return found


def shape_word(name: str, shape: Sequence[int]) -> str:
    return "{}:{}".format(name, "x".join(map(str, shape)))


def _precision(options: Mapping[str, object]) -> List[str]:
    wanted = options.get("precision") or "float32"
    if wanted not in PRECISIONS:
        raise ModelRefused("The option 'precision' must be one of {}, got {!r}.".format(
            ", ".join(sorted(PRECISIONS)), wanted))
    return PRECISIONS[wanted]


def _launched(words: Sequence[str], limit_s: float, check: bool = True) -> str:
    """Runs trtexec and returns its output. Raises ModelRefused for a crash, a failure, or a hang,
    which is killed."""
    command = [program(), *words]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=_end_with_this_process)
    except OSError as error:
        raise RuntimeUnavailable("{} cannot be started: {}".format(command[0], error)) from error
    try:
        output = process.communicate(timeout=limit_s)[0].decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        raise ModelRefused("trtexec did not end within {:g} s.".format(limit_s)) from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if check and process.returncode != 0:
        raise ModelRefused(_why(process.returncode, output))
    return output


def _end_with_this_process() -> None:
    signal_on_parent_death(signal.SIGKILL)


def _why(code: int, output: str) -> str:
    """How trtexec ended, with the first error of its log, which causes the later ones."""
    errors = _ERROR.findall(output)
    how = "signal {}".format(-code) if code < 0 else "exit code {}".format(code)
    return "trtexec ended with {}{}".format(how, ": " + errors[0][:300] if errors else "")


def _read_list(path: str, parse: Callable[[Mapping[str, object]], E]) -> List[E]:
    """The parsed objects of a list that trtexec exported. Raises ModelRefused."""
    try:
        with open(path, encoding="utf-8") as stream:
            return [parse(one) for one in json.load(stream)]
    except KeyError as error:
        raise ModelRefused("The output of trtexec has no {}.".format(error)) from error
    except (OSError, TypeError, ValueError) as error:
        raise ModelRefused("The output of trtexec cannot be read: {}".format(error)) from error


def _query(content: Mapping[str, object]) -> QueryTimes:
    return QueryTimes(_number(content["startComputeMs"]), _number(content["latencyMs"]))


def _output(content: Mapping[str, object]) -> OutputValues:
    values = content["values"]
    if not isinstance(values, list):
        raise TypeError("the values of an output are {}".format(type(values).__name__))
    return OutputValues(str(content["name"]),
                        [int(size) for size in str(content["dimensions"]).split("x")],
                        [_number(value) for value in values])


def _number(value: object) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError("{!r} is no number".format(value))
    return float(value)


def _packed(values: Sequence[float]) -> bytes:
    packed = array("f", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()
