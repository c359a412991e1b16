"""Inputs and outputs of an ONNX file, parsed without the package ``onnx``.

Field numbers of onnx.proto: ModelProto.graph = 7; GraphProto.initializer = 5, input = 11,
output = 12; TensorProto.name = 8; ValueInfoProto.name = 1, type = 2; TypeProto.tensor_type = 1;
its elem_type = 1, shape = 2; TensorShapeProto.dim = 1; Dimension.dim_value = 1.
"""

from typing import Iterator, List, NamedTuple, Optional, Tuple, Union

Field = Tuple[int, Union[int, memoryview]]
FLOAT, INT32, INT64, BOOL = 1, 6, 7, 9
"""Kinds of ``TensorSignature``."""


class InvalidOnnx(Exception):
    """The bytes are not an ONNX model; the text says why."""


class TensorSignature(NamedTuple):
    """An input or output. ``shape`` has None for symbolic sizes; ``kind`` is TensorProto's type."""

    name: str
    kind: int
    shape: List[Optional[int]]


class ModelSignature(NamedTuple):
    """Inputs and outputs of a model, in order."""

    inputs: List[TensorSignature]
    outputs: List[TensorSignature]


def model_signature(content: bytes) -> ModelSignature:
    """Inputs, without initializers, and outputs of the graph. Raises InvalidOnnx."""
    try:
        graphs = [value for number, value in _fields(memoryview(content)) if number == 7]
        if not graphs:
            raise InvalidOnnx("The file has no graph.")
        inputs, outputs, constants = [], [], set()
        for number, value in _fields(_message(graphs[-1])):
            if number == 5:
                constants.add(_text(_message(value), 8))
            elif number == 11:
                inputs.append(_port(_message(value)))
            elif number == 12:
                outputs.append(_port(_message(value)))
    except (IndexError, ValueError) as error:
        raise InvalidOnnx("The file is not an ONNX model: {}".format(error)) from error
    return ModelSignature([one for one in inputs if one.name not in constants], outputs)


def _port(info: memoryview) -> TensorSignature:
    kind, shape = 0, []  # type: int, List[Optional[int]]
    for tensor in _inner(info, 2, 1):
        for number, value in _fields(tensor):
            if number == 1 and isinstance(value, int):
                kind = value
        for dimension in _inner(tensor, 2, 1):
            sizes = [value for number, value in _fields(dimension) if number == 1]
            size = sizes[-1] if sizes else None
            shape.append(size if isinstance(size, int) and size > 0 else None)
    return TensorSignature(_text(info, 1), kind, shape)


def _inner(message: memoryview, first: int, second: int) -> Iterator[memoryview]:
    """Yields the messages in the field ``second`` of the messages in the field ``first``."""
    for number, value in _fields(message):
        if number == first:
            for inner_number, inner in _fields(_message(value)):
                if inner_number == second:
                    yield _message(inner)


def _text(message: memoryview, wanted: int) -> str:
    found = [value for number, value in _fields(message) if number == wanted]
    return bytes(_message(found[-1])).decode("utf-8") if found else ""


def _message(value: Union[int, memoryview]) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value


def _fields(message: memoryview) -> Iterator[Field]:
    """Numbers with their values; of fixed width only the bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("a field of the unknown kind {}".format(wire))
        if at + size > len(message):
            raise ValueError("it ends early")
        yield key >> 3, message[at:at + size]
        at += size


def _varint(message: memoryview, at: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of over ten bytes")
