"""ONNX Runtime, 1.4 or newer. It and numpy are imported inside functions only."""

import json
import os
from typing import Any, Callable, Dict, List, Mapping, Optional

from agents.protocol import OUTPUT_LIMIT, JsonObject, NodeTime
from agents.runtimes.base import (
    PERF_COUNTER_NS,
    ModelRefused,
    NotProfiled,
    Runtime,
    RuntimeUnavailable,
    Session,
    feeds_of,
    input_values,
    is_one,
    option,
)
from agents.runtimes.ort_profile import node_times
from agents.timing.arrays import FLOAT32, KIND_BYTES, Values

LEVELS = {"all": "ORT_ENABLE_ALL", "basic": "ORT_ENABLE_BASIC", "disable": "ORT_DISABLE_ALL"}
FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
INTEGERS = {"tensor({})".format(name): name
            for name in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
                         "uint64")}
DTYPES = dict(FLOATS, **INTEGERS)
SILENT_BELOW_ERROR = 3
CPU = "CPUExecutionProvider"


class OnnxRuntimeSession(Session):
    def __init__(self, session: Any, feed: Mapping[str, object]) -> None:
        self._run = session.run
        self._names = [one.name for one in session.get_outputs() if one.type in DTYPES]
        if not self._names:
            raise ModelRefused("None of the outputs is a tensor of numbers.")
        self._feed = feed
        self.provider = str(session.get_providers()[0])
        first = session.get_inputs()[0].shape[:1]
        self.batch = first[0] if first and isinstance(first[0], int) and first[0] > 0 else None

    def run(self) -> object:
        return self._run(self._names, self._feed)

    def bound_outputs(self) -> List[float]:
        found: List[float] = []
        for values in self._run(self._names, self._feed):
            found += [float(value) for value in values.reshape(-1)[:OUTPUT_LIMIT - len(found)]]
        return found

    def outputs(self, feeds: Mapping[str, Values]) -> Dict[str, Values]:
        named = feeds_of(feeds, list(self._feed))
        arrays = {name: _array(name, values, self._feed[name]) for name, values in named.items()}
        try:
            found = self._run(self._names, arrays)
        except Exception as error:
            # Not all versions of onnxruntime export its exception types.
            raise ModelRefused(_one_line(error)) from error
        return {name: _values(one) for name, one in zip(self._names, found)}


class OnnxRuntimeProfiledSession(OnnxRuntimeSession):
    """A session with a profiler. ``open_unpacked`` opens the file without weight packing, for the
    bytes of its nodes; it returns None if this version of ONNX Runtime cannot."""

    def __init__(self, session: Any, feed: Mapping[str, object],
                 open_unpacked: Callable[[], Optional[Any]]) -> None:
        super().__init__(session, feed)
        self._session: Any = session
        self._open_unpacked = open_unpacked

    def node_times(self) -> List[NodeTime]:
        try:
            events = _profile(self._session)
        except (OSError, ValueError) as error:
            raise NotProfiled("the profile cannot be read: {}".format(error)) from error
        self._session = self._run = None  # frees its memory before the file is opened again
        return node_times(events, self._unpacked())

    def _unpacked(self) -> List[JsonObject]:
        try:
            session = self._open_unpacked()
            if session is None:
                return []
            session.run(self._names, self._feed)
            return _profile(session)
        except Exception:  # noqa: BLE001 - a kernel may require packed weights; then only the bytes are unknown
            return []


class OnnxRuntime(Runtime):
    # The clock itself, because another layer of Python would be timed too.
    clock_ns = staticmethod(PERF_COUNTER_NS)

    def versions(self) -> JsonObject:
        module = _onnxruntime()
        return {"onnxruntime": str(module.__version__),
                "providers": [str(name) for name in module.get_available_providers()]}

    def open(self, path: str, options: Mapping[str, object], input_seed: int) -> Session:
        module = _onnxruntime()
        session = _session(module, path, _settings(module, options), options)
        return OnnxRuntimeSession(session, _feed(session, option(options, "batch", 1), input_seed))

    def open_profiled(self, path: str, options: Mapping[str, object], input_seed: int,
                      folder: str) -> Session:
        module = _onnxruntime()

        def profiled(unpacked: bool) -> Any:
            settings = _settings(module, options)
            settings.enable_profiling = True
            settings.profile_file_prefix = os.path.join(folder, "profile")
            if unpacked:
                # Older versions lack this method; then the bytes are unknown.
                if not hasattr(settings, "add_session_config_entry"):
                    return None
                settings.add_session_config_entry("session.disable_prepacking", "1")
            return _session(module, path, settings, options)

        session = profiled(False)
        return OnnxRuntimeProfiledSession(
            session, _feed(session, option(options, "batch", 1), input_seed),
            lambda: profiled(True))

    def idle_model(self, nodes: int) -> Optional[bytes]:
        from agents.runtimes.idle_onnx import idle_onnx

        return idle_onnx(nodes)

    def prove(self, provider: str, model: bytes) -> None:
        module = _onnxruntime()
        settings = _settings(module, {})
        if provider != CPU and hasattr(settings, "add_session_config_entry"):
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = module.InferenceSession(model, settings, [provider])
            ran = OnnxRuntimeSession(session, _feed(session, 1, 0))
            ran.run()
        except Exception as error:
            # Not all versions of onnxruntime export its exception types.
            raise ModelRefused(_one_line(error)) from error
        if ran.provider != provider:
            raise ModelRefused("{} ran the file instead.".format(ran.provider))


RUNTIME = OnnxRuntime


def _onnxruntime() -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeUnavailable(
            "onnxruntime cannot be imported ({}): install it for this Python, "
            "`python3 -m pip install onnxruntime`.".format(error)) from error
    return onnxruntime


def _session(module: Any, path: str, settings: Any, options: Mapping[str, object]) -> Any:
    try:
        return module.InferenceSession(
            path, settings, options.get("providers") or ["CPUExecutionProvider"])
    except Exception as error:
        # Not all versions of onnxruntime export its exception types.
        raise ModelRefused(_one_line(error)) from error


def _profile(session: Any) -> List[JsonObject]:
    """Ends profiling and returns its events. Raises OSError and ValueError."""
    with open(session.end_profiling(), encoding="utf-8") as stream:
        events: List[JsonObject] = json.load(stream)
        return events


def _settings(module: Any, options: Mapping[str, object]) -> Any:
    level = options.get("graph_level", "all")
    if level not in LEVELS:
        raise ModelRefused("The option 'graph_level' must be one of {}, got {!r}.".format(
            ", ".join(sorted(LEVELS)), level))
    settings = module.SessionOptions()
    settings.intra_op_num_threads = option(options, "threads", 1)
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = getattr(module.GraphOptimizationLevel, LEVELS[level])
    settings.log_severity_level = SILENT_BELOW_ERROR
    return settings


def _feed(session: Any, batch: int, input_seed: int) -> JsonObject:
    import numpy

    feed: JsonObject = {}
    for one in session.get_inputs():
        if one.type not in DTYPES:
            raise ModelRefused("The input {!r} is a {}; only tensors of numbers can be timed: "
                               "{}.".format(one.name, one.type, ", ".join(sorted(DTYPES))))
        shape = [size if isinstance(size, int) and size > 0 else batch for size in one.shape]
        count = 1
        for size in shape:
            count *= size
        values = input_values(count, input_seed)
        if one.type in INTEGERS:
            bound = numpy.array([is_one(value) for value in values], dtype=DTYPES[one.type])
        else:
            bound = numpy.array(values, dtype="float32").astype(DTYPES[one.type])
        feed[one.name] = bound.reshape(shape)
    return feed


def _array(name: str, values: Values, bound: object) -> object:
    """``values`` in the element type of the input. Raises ModelRefused for a type of another
    kind, which would change the numbers."""
    import numpy

    array = numpy.frombuffer(values.content, dtype=values.kind).reshape(values.shape)
    wanted = numpy.asarray(bound).dtype
    if array.dtype != wanted and not array.dtype.kind == wanted.kind == "f":
        raise ModelRefused("The input {!r} is {}, the data set has {} for it.".format(
            name, wanted, array.dtype))
    return array.astype(wanted)


def _values(output: Any) -> Values:
    import numpy

    kind = FLOAT32 if output.dtype.kind == "f" else output.dtype.newbyteorder("<").str
    if kind not in KIND_BYTES:
        raise ModelRefused("An output has the type {}, which is no number.".format(output.dtype))
    return Values(kind, list(output.shape), numpy.ascontiguousarray(output, dtype=kind).tobytes())


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
