"""The facts of an ONNX file of unknown origin.

Runs in a bounded child of a builder only (searcher/artifacts/inspection.py). The file is parsed
from memory: nothing that it names is ever opened."""

import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from searcher.artifacts.formats.base import ModelFacts, Refused, TensorFacts
from searcher.artifacts.onnx_complexity import complexity
from searcher.errors import UserError

M = TypeVar("M", bound=Message)

MOST_INPUT_BYTES = 2**30
MOST_VALUES = 256
MOST_DOMAINS, LONGEST_NAME, LATEST = 64, 400, 10_000
ONNX_DOMAINS = frozenset({"ai.onnx", "ai.onnx.ml", "ai.onnx.training",
                          "ai.onnx.preview.training", "com.microsoft"})
"""All else is reported as custom: a runtime needs a library for it."""

_NAMES = {"FLOAT": "float32", "DOUBLE": "float64"}
_OUT_OF_MEMORY = ("bad_alloc", "alloc failed", "allocate", "out of memory", "bad allocation")


def facts(content: bytes) -> ModelFacts:
    """What the ledger keeps of an accepted model. Raises Refused, MemoryError."""
    model = _parsed(content)
    tensors = list(_messages(model, TensorProto))
    _check_tensors(tensors)
    inputs, outputs = _inputs(model), tuple(_value(value) for value in model.graph.output)
    domains, custom = _domains(model)
    trouble = _run_once(content, model)
    parameters, macs, note = _counted(model) if trouble is None else (0, None, trouble)
    return ModelFacts(
        inputs=inputs, outputs=outputs, opset=domains.get("ai.onnx", 0),
        ir_version=model.ir_version, domains=domains, custom_domains=custom,
        parameters=parameters or sum(math.prod(t.dims) for t in tensors if _computes(t)),
        macs=macs,
        number_formats=tuple(sorted({_format(t.data_type) for t in tensors if _computes(t)}
                                    | {value.format for value in inputs})),
        notes=() if note is None else (note,),
    )


def _parsed(content: bytes) -> ModelProto:
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        _check_memory(error)
        raise Refused("not_onnx", f"It is no ONNX file: {_short(error)}") from error
    missing = [what for what, there in (
        ("an IR version", 0 < model.ir_version <= LATEST), ("a node", model.graph.node),
        ("an output", model.graph.output), ("an opset", model.opset_import)) if not there]
    if missing:
        raise Refused("not_onnx", f"It is no ONNX file: it has not {' or '.join(missing)}.")
    return model


_LEADS: dict[tuple[str, str], bool] = {}


def _leads(start: Descriptor, goal: str, passed: frozenset[str] = frozenset()) -> bool:
    """Whether a message of type ``start`` can hold one of type ``goal`` at any depth."""
    if start.full_name == goal:
        return True
    key = (start.full_name, goal)
    if key not in _LEADS and start.full_name not in passed:
        found = any(_leads(field.message_type, goal, passed | {start.full_name})
                    for field in start.fields if field.message_type is not None)
        if passed and not found:
            return False  # perhaps only because a loop was cut
        _LEADS[key] = found
    return _LEADS.get(key, False)


def _messages(root: Message, kind: type[M]) -> Iterator[M]:
    """Every message of type ``kind`` in ``root``: in attributes, subgraphs, functions, wherever
    the format has a place for one, today or later."""
    goal = kind.DESCRIPTOR.full_name
    found: list[Message] = [root]
    while found:
        message = found.pop()
        if isinstance(message, kind):
            yield message
        for field, value in message.ListFields():
            if field.message_type is not None and _leads(field.message_type, goal):
                found.extend([value] if isinstance(value, Message) else value)


def _check_tensors(tensors: list[TensorProto]) -> None:
    for tensor in tensors:
        shown = repr(tensor.name[:100])
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise Refused("external_data", f"The tensor {shown} lies in another file. Save the "
                                           "model with its data inside, as one file.")
        if any(size < 0 for size in tensor.dims):
            raise Refused("malformed", f"The tensor {shown} has a negative size.")
        try:
            numpy_helper.to_array(tensor)
        except Exception as error:  # whatever numpy makes of bytes of a stranger
            _check_memory(error)
            raise Refused("malformed", f"The tensor {shown} of shape {list(tensor.dims)[:32]} does "
                                       f"not hold what it declares: {_short(error)}") from error


def _inputs(model: ModelProto) -> tuple[TensorFacts, ...]:
    held = _held(model)
    values = [value for value in model.graph.input if value.name not in held]
    if not 1 <= len(values) <= MOST_VALUES or len(model.graph.output) > MOST_VALUES:
        raise Refused("malformed", f"It has {len(values)} inputs and {len(model.graph.output)} "
                                   f"outputs; 1 to {MOST_VALUES} of each can be measured.")
    for value in values:
        kind = value.type
        if kind.HasField("tensor_type") and not kind.tensor_type.HasField("shape"):
            raise Refused("dynamic_input", f"The input {value.name[:100]!r} has no shape. Export "
                                           "the model with fixed sizes, the batch apart.")
    described = tuple(_value(value) for value in values)
    for value in described:
        for axis, size in enumerate(value.shape):
            if size == 0 or (size is None and axis > 0):
                what = "is empty" if size == 0 else "has no fixed size"
                raise Refused("dynamic_input", f"Axis {axis} of the input {value.name!r} "
                              f"{what}. Only the first, the batch, may be open: fix the others "
                              "when you export the model.")
    total_bytes = 8 * sum(math.prod(size or 1 for size in v.shape) for v in described)
    if total_bytes > MOST_INPUT_BYTES:
        raise Refused("too_large", f"One sample takes up to {total_bytes} bytes, at most "
                                   f"{MOST_INPUT_BYTES} can be measured.")
    return described


def _held(model: ModelProto) -> set[str]:
    """Names that the file gives values to; old files list them as inputs too."""
    return {tensor.name for tensor in model.graph.initializer} | {
        tensor.values.name for tensor in model.graph.sparse_initializer}


def _domains(model: ModelProto) -> tuple[dict[str, int], tuple[str, ...]]:
    """The version of each set of operators, and those that are not ONNX's own."""
    versions = {_text(entry.domain) or "ai.onnx": entry.version for entry in model.opset_import}
    used = {_text(node.domain) or "ai.onnx" for node in _messages(model, NodeProto)}
    names = used | set(versions)
    if len(names) > MOST_DOMAINS or any(len(name) > LONGEST_NAME for name in names):
        raise Refused("malformed", f"It names {len(names)} sets of operators; at most "
                                   f"{MOST_DOMAINS} of {LONGEST_NAME} letters are understood.")
    if not all(0 <= version <= LATEST for version in versions.values()):
        raise Refused("malformed", f"Its opsets have impossible versions: {versions}.")
    return versions, tuple(sorted(names - ONNX_DOMAINS))


def _value(value: ValueInfoProto) -> TensorFacts:
    shown = _text(value.name)[:LONGEST_NAME] or "(unnamed)"
    if value.type.WhichOneof("value") != "tensor_type":
        raise Refused("malformed", f"{shown!r} is no tensor; only tensors go in and out.")
    tensor = value.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    if any(size is not None and size < 0 for size in sizes) or len(sizes) > 32:
        raise Refused("malformed", f"{shown!r} has the impossible shape {sizes[:33]}.")
    if any((size or 0) > 2**53 for size in sizes):
        raise Refused("too_large", f"{shown!r} has the shape {sizes}.")
    return TensorFacts(shown, _format(tensor.elem_type), tuple(sizes))


def _text(name: str | bytes) -> str:
    """protobuf gives bytes where it finds no UTF-8."""
    if not isinstance(name, str):
        raise Refused("malformed", f"The name {name[:100]!r} is no text.")
    return name


def _format(data_type: int) -> str:
    try:
        name = str(TensorProto.DataType.Name(data_type))
    except ValueError as error:
        raise Refused("malformed", f"{data_type} is no number format.") from error
    return _NAMES.get(name, name.lower())


def _computes(tensor: TensorProto) -> bool:
    """Whether it is a weight rather than a shape, an index or a text."""
    return tensor.data_type not in (
        TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING)


def _run_once(content: bytes, model: ModelProto) -> str | None:
    """One run on a sample of zeros, as on a device; why it does not run here, if it does not.
    Raises Refused when the model is to blame."""
    held = _held(model)
    feeds = {
        value.name: np.zeros(
            [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim],
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in model.graph.input if value.name not in held}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"])
        session.run(None, feeds)
    except Exception as error:  # noqa: BLE001  a graph of a stranger, in a process of its own
        _check_memory(error)
        _check_rules(model)
        return f"It does not run in ONNX Runtime {onnxruntime.__version__} here: {_short(error)}"
    return None


def _counted(model: ModelProto) -> tuple[int, int | None, str | None]:
    """Parameters, multiply-accumulates, and why they are not known."""
    try:
        found = complexity(model)
    except Exception as error:  # noqa: BLE001  as above
        _check_memory(error)
        why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return 0, None, f"Multiply-accumulates are not known: {_short(why)}"
    return found.parameters, found.macs, None


def _check_memory(error: Exception) -> None:
    if isinstance(error, MemoryError) or any(
            words in str(error).lower() for words in _OUT_OF_MEMORY):
        raise MemoryError(str(error)) from error


def _check_rules(model: ModelProto) -> None:
    """For a model that does not run here: that may be for want of a library for its operators."""
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, TypeError, RuntimeError) as error:
        raise Refused("malformed", f"It breaks the rules of ONNX: {_short(error)}") from error


def _short(error: object) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 500 else f"{text[:497]}..."
