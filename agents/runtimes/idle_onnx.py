"""ONNX files whose nodes compute next to nothing; they measure the overhead of a call.

    x (1 float) -> Abs -> Abs -> ... -> y        opset 7, IR 3: every ONNX Runtime loads it

``Abs``, because no optimiser merges or removes a row of them (tested with ONNX Runtime 1.32).
Encoded as protocol buffers (https://protobuf.dev/programming-guides/encoding) with the field
numbers of onnx.proto, since devices lack the package ``onnx``.
"""

from typing import Union

FLOAT = 1
IR_VERSION, OPSET = 3, 7


def idle_onnx(nodes: int) -> bytes:
    """A model of ``nodes`` nodes in a row, at least one."""
    names = ["v{}".format(place) for place in range(nodes + 1)]
    row = [_field(1, _field(1, before) + _field(2, after) + _field(4, "Abs"))
           for before, after in zip(names, names[1:])]
    graph = b"".join([*row, _field(2, "idle"), _field(11, _value(names[0])),
                      _field(12, _value(names[-1]))])
    return _field(1, IR_VERSION) + _field(7, graph) + _field(8, _field(2, OPSET))


def _value(name: str) -> bytes:
    """The ValueInfoProto of one float."""
    shape = _field(1, _field(1, 1))
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + _field(2, shape)))


def _field(number: int, content: Union[int, str, bytes]) -> bytes:
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    packed = content.encode("ascii") if isinstance(content, str) else content
    return _varint(number << 3 | 2) + _varint(len(packed)) + packed


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
