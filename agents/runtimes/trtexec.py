"""TensorRT by its command line program ``trtexec``, 8.2 (JetPack 4.6) or newer.

    prepare   trtexec --onnx --saveEngine --timingCacheFile ...    builds an engine; one inference
    open      trtexec --loadEngine --exportTimes, one inference    times loading and the first call
    run       the next latency of trtexec --loadEngine --exportTimes over LAUNCH_S; a new launch
              when all are used
    outputs   trtexec --loadEngine --loadInputs --exportOutput

The latencies that trtexec reports (host to device, kernels, device to host) move the runtime's own
clock. Reference and candidate therefore alternate by launches, not within milliseconds. Only flags
common to 8.2 and 10 are used (no --buildOnly, no --workspace). TensorRT fills inputs with noise
unless --loadInputs gives them, which a launch does for models with an integer input: noise is no
index. Not tested on hardware: the tests use a script that behaves as documented.
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
    Dict,
    List,
    Mapping,
    NamedTuple,
    Sequence,
    Set,
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
    feeds_of,
    input_values,
    is_one,
    option,
)
from agents.runtimes.engines import EngineStore
from agents.runtimes.onnx_signature import (
    BOOL,
    FLOAT,
    INT32,
    INT64,
    InvalidOnnx,
    TensorSignature,
    model_signature,
)
from agents.timing.arrays import FLOAT32, Values, encode, product

JETSON = "/usr/src/tensorrt/bin/trtexec"
PROVIDER = "TensorrtExecutionProvider"
PRECISIONS = {"float32": ["--noTF32"], "float16": ["--fp16"], "int8": ["--int8"],
              "best": ["--best"]}
"""int8 is for files with QuantizeLinear: without calibration trtexec uses arbitrary ranges."""
LAUNCH_S, LAUNCH_WARM_MS = 0.25, 200
LAUNCH_LIMIT_S, BUILD_LIMIT_S = 120.0, 3600.0
INPUTS = {FLOAT: (FLOAT32, "f"), INT32: ("<i4", "i"), INT64: ("<i8", "q"), BOOL: ("|b1", "B")}
"""Kind and type code of ``array`` of the inputs that trtexec reads."""
NARROW_INT64_BELOW = 100000
"""TensorRT before 10 turns an input of int64 into one of int32."""
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
    """A model file's engine, its ``inputs`` with their ``shapes``, and its ``outputs``."""

    engine: str
    inputs: List[TensorSignature]
    outputs: List[TensorSignature]
    shapes: List[List[int]]

    def shape_words(self, option: str) -> List[str]:
        """``option`` with the shapes of all inputs that have a symbolic size, if there are any."""
        words = ["{}:{}".format(source.name, "x".join(map(str, shape)))
                 for source, shape in zip(self.inputs, self.shapes) if None in source.shape]
        return ["{}={}".format(option, ",".join(words))] if words else []

    def words(self) -> List[str]:
        return ["--loadEngine=" + self.engine, *self.shape_words("--shapes")]

    def bound(self, input_seed: int) -> Dict[str, Values]:
        """The timing input."""
        found = {}
        for source, shape in zip(self.inputs, self.shapes):
            kind, code = INPUTS[source.kind]
            values = input_values(product(shape), input_seed)
            numbers = values if source.kind == FLOAT else [is_one(value) for value in values]
            found[source.name] = Values(kind, shape, encode(code, numbers))
        return found


class TrtexecSession(Session):
    provider = PROVIDER

    def __init__(self, runtime: "TrtexecRuntime", model: Model, input_seed: int) -> None:
        self._runtime, self._model, self._seed = runtime, model, input_seed
        self._latencies_ns: Deque[int] = deque()
        floats = all(source.kind == FLOAT for source in model.inputs)
        self._timed: Mapping[str, Values] = {} if floats else model.bound(input_seed)
        self.batch = model.shapes[0][0]

    def begin(self) -> None:
        """Runs one inference, which tests the engine; its latency is that of the first call."""
        self._latencies_ns.extend(self._runtime.latencies_ns(self._model, self._timed, ONCE, 0))

    def run(self) -> object:
        if not self._latencies_ns:
            self._latencies_ns.extend(self._runtime.latencies_ns(self._model, self._timed, [
                "--warmUp={}".format(LAUNCH_WARM_MS), "--duration={:g}".format(LAUNCH_S),
                "--iterations=1"], LAUNCH_WARM_MS))
        self._runtime.now_ns += self._latencies_ns.popleft()
        return None

    def bound_outputs(self) -> List[float]:
        found: List[float] = []
        for output in self._runtime.outputs(self._model, self._model.bound(self._seed)):
            found += output.values[:OUTPUT_LIMIT - len(found)]
        return found

    def outputs(self, feeds: Mapping[str, Values]) -> Dict[str, Values]:
        named = feeds_of(feeds, [source.name for source in self._model.inputs])
        for source, shape in zip(self._model.inputs, self._model.shapes):
            wanted = Values(INPUTS[source.kind][0], shape, b"")
            if named[source.name][:2] != wanted[:2]:
                raise ModelRefused("The engine is for {} of the shape {} as {!r}, not {} of {}."
                                   .format(*wanted[:2], source.name, *named[source.name][:2]))
        kinds = {target.name: target.kind for target in self._model.outputs}
        return {one.name: _values(one, kinds[one.name])
                for one in self._runtime.outputs(self._model, named)}


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
        began_s = time.monotonic()
        _launched(["--onnx=" + path, "--saveEngine=" + partial,
                   "--timingCacheFile=" + engines.timing_cache(), *_precision(options),
                   *model.shape_words("--optShapes"), *ONCE], BUILD_LIMIT_S)
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

    def latencies_ns(self, model: Model, feeds: Mapping[str, Values], words: Sequence[str],
                     warm_ms: float) -> List[int]:
        """The latencies of all queries after the warm-up, from trtexec's timing trace."""
        with tempfile.TemporaryDirectory() as folder:
            trace = os.path.join(folder, "times.json")
            _launched([*model.words(), *self._loaded(feeds, folder), *words,
                       "--exportTimes=" + trace], LAUNCH_LIMIT_S)
            found = [max(int(one.latency_ms * 1e6), 1) for one in _read_list(trace, _query)
                     if one.start_ms >= warm_ms]
        if not found:
            raise ModelRefused("trtexec timed no query.")
        return found

    def outputs(self, model: Model, feeds: Mapping[str, Values]) -> List[OutputValues]:
        """All outputs, in the order of the file."""
        with tempfile.TemporaryDirectory() as folder:
            target = os.path.join(folder, "output.json")
            _launched([*model.words(), *ONCE, *self._loaded(feeds, folder),
                       "--exportOutput=" + target], LAUNCH_LIMIT_S)
            found = {one.name: one for one in _read_list(target, _output)}
        missing = [one.name for one in model.outputs if one.name not in found]
        if missing:
            raise ModelRefused("trtexec reported no output {!r}.".format(missing[0]))
        return [found[one.name] for one in model.outputs]

    def _loaded(self, feeds: Mapping[str, Values], folder: str) -> List[str]:
        """The option that gives inputs, whose files are written to ``folder``."""
        narrow = int(str(self.versions()["trtexec"])) < NARROW_INT64_BELOW
        files = []
        for number, (name, values) in enumerate(feeds.items()):
            path = os.path.join(folder, "input{}.bin".format(number))
            with open(path, "wb") as stream:
                stream.write(_narrowed(name, values) if narrow else values.content)
            files.append("{}:{}".format(name, path))
        return ["--loadInputs=" + ",".join(files)] if files else []

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
        odd = [one for one in ports.inputs if one.kind not in INPUTS or not one.shape]
        if odd or not ports.inputs or not ports.outputs:
            found = ["{!r} of ONNX type {} and shape {}".format(*one) for one in ports.inputs]
            raise ModelRefused("trtexec reads inputs of float32, int32, int64 and bool with an "
                               "axis of samples; the model has {}.".format(
                                   ", ".join(found) or "none"))
        return Model(engine, ports.inputs, ports.outputs,
                     [[size or batch for size in one.shape] for one in ports.inputs])


RUNTIME = TrtexecRuntime


def program() -> str:
    """The path of trtexec. Raises RuntimeUnavailable."""
    found = shutil.which("trtexec") or (JETSON if os.access(JETSON, os.X_OK) else None)
    if found is None:
        raise RuntimeUnavailable("There is no trtexec in PATH nor at {}: install TensorRT, which "
                                 "JetPack has.".format(JETSON))
    return found


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


def _values(output: OutputValues, kind: int) -> Values:
    """Integers and booleans in their own type, all other numbers as float32."""
    name, code = INPUTS.get(kind, INPUTS[FLOAT])
    numbers = output.values if code == "f" else [int(value) for value in output.values]
    return Values(name, output.shape, encode(code, numbers))


def _narrowed(name: str, values: Values) -> bytes:
    """int64 as int32. Raises ModelRefused for numbers that do not fit."""
    if values.kind != INPUTS[INT64][0]:
        return values.content
    wide = array("q", values.content)
    if sys.byteorder == "big":
        wide.byteswap()
    try:
        return encode("i", wide)
    except OverflowError:
        raise ModelRefused("The input {!r} has numbers beyond int32, which is what this version of "
                           "TensorRT computes with.".format(name)) from None
