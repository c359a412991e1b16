"""How a weight is written: a small expression over constants that ONNX Runtime folds at load.

A form builds an expression; here are its shape, its value (the reference that a decoder must equal
bit by bit) and its ONNX nodes. ``Codes`` stands for packed integers until ``packing`` has decided
which tensors share a stream of words.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import NodeProto, TensorProto, helper

from strategies.encoding.graph import tensor_proto

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Constant:
    array: Array


@dataclass(frozen=True, eq=False)
class Codes:
    """Integers in [0, radix), any shape; not an ONNX value yet."""

    digits: Array
    radix: int


@dataclass(frozen=True, eq=False)
class Apply:
    operator: str
    inputs: "tuple[Expression, ...]"
    attributes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Piece:
    """Part ``index`` of ``source`` split along its first axis into ``sizes``."""

    source: "Expression"
    sizes: Shape
    index: int


Expression = Constant | Codes | Apply | Piece


def integers(values: int | Sequence[int] | Array, dtype: DTypeLike = np.int64) -> Constant:
    return Constant(np.asarray(values, dtype=dtype))


def cast(inner: Expression, dtype: DTypeLike) -> Apply:
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return Apply("Cast", (inner,), (("to", number),))


def reshape(inner: Expression, shape: Shape) -> Apply:
    return Apply("Reshape", (inner, integers(shape)))


def _reshape_value(inner: Array, shape: Array) -> Array:
    return inner.reshape([int(n) for n in shape])


def _scatter(base: Array, positions: Array, updates: Array) -> Array:
    result = base.copy()
    result[positions] = updates
    return result


_VALUE: Mapping[str, Callable[..., Array]] = {
    "Div": lambda a, b: a // b,
    "Mod": lambda a, b: a % b,
    "Mul": lambda a, b: a * b,
    "Gather": lambda table, codes: np.take(table, codes, axis=0),
    "Reshape": _reshape_value,
    "Expand": lambda inner, shape: np.broadcast_to(inner, [int(n) for n in shape]),
    "CumSum": lambda inner, axis: np.cumsum(inner, axis=int(axis), dtype=inner.dtype),
    "ScatterElements": _scatter,
}


def evaluate(expression: Expression, memo: dict[Expression, Array] | None = None) -> Array:
    """The value of ``expression``; ``Codes`` count as their digits. ``memo`` keeps the values of
    split streams, which several tensors share."""
    if isinstance(expression, Constant):
        return expression.array
    if isinstance(expression, Codes):
        return expression.digits
    memo = {} if memo is None else memo
    if isinstance(expression, Piece):
        if expression.source not in memo:
            memo[expression.source] = evaluate(expression.source, memo)
        start = sum(expression.sizes[: expression.index])
        return memo[expression.source][start : start + expression.sizes[expression.index]]
    values = [evaluate(inner, memo) for inner in expression.inputs]
    if expression.operator == "Cast":
        number = dict(expression.attributes)["to"]
        return values[0].astype(helper.tensor_dtype_to_np_dtype(number))
    return _VALUE[expression.operator](*values)


def shape_of(expression: Expression) -> Shape:
    """The shape of ``expression`` without computing it."""
    if isinstance(expression, Constant):
        return expression.array.shape
    if isinstance(expression, Codes):
        return expression.digits.shape
    if isinstance(expression, Piece):
        return (expression.sizes[expression.index], *shape_of(expression.source)[1:])
    if expression.operator in ("Reshape", "Expand"):
        target = expression.inputs[1]
        assert isinstance(target, Constant)
        return tuple(int(n) for n in target.array)
    shapes = [shape_of(inner) for inner in expression.inputs]
    if expression.operator == "Gather":
        return (*shapes[1], *shapes[0][1:])
    if expression.operator in ("Div", "Mod", "Mul"):
        return tuple(np.broadcast_shapes(*shapes))
    return shapes[0]


def codes_in(expression: Expression) -> list[Codes]:
    if isinstance(expression, Codes):
        return [expression]
    inner: tuple[Expression, ...] = ()
    if isinstance(expression, Apply):
        inner = expression.inputs
    elif isinstance(expression, Piece):
        inner = (expression.source,)
    return [codes for part in inner for codes in codes_in(part)]


def substitute(expression: Expression, packed: Mapping[Codes, Expression]) -> Expression:
    """``expression`` with its codes replaced; a Reshape that has become needless goes."""
    if isinstance(expression, Codes):
        return packed[expression]
    if not isinstance(expression, Apply):
        return expression
    inputs = tuple(substitute(inner, packed) for inner in expression.inputs)
    result = Apply(expression.operator, inputs, expression.attributes)
    if result.operator == "Reshape" and shape_of(inputs[0]) == shape_of(result):
        return inputs[0]
    return result


_NODE_BYTES, _NAME_BYTES, _ATTRIBUTE_BYTES = 4, 3, 12


def size_bytes(expression: Expression, codes_bytes: Callable[[Codes], float]) -> float:
    """An estimate of the serialized size, good to a few bytes; nothing counts as shared."""
    if isinstance(expression, Codes):
        return codes_bytes(expression)
    if isinstance(expression, Constant):
        return float(tensor_proto(expression.array, "a").ByteSize() + 3)
    if isinstance(expression, Piece):
        return size_bytes(expression.source, codes_bytes)
    inner_bytes = sum(size_bytes(inner, codes_bytes) for inner in expression.inputs)
    names_bytes = _NAME_BYTES * (1 + len(expression.inputs))
    attributes_bytes = _ATTRIBUTE_BYTES * len(expression.attributes)
    return _NODE_BYTES + len(expression.operator) + names_bytes + attributes_bytes + inner_bytes


@dataclass
class Writer:
    """Collects ONNX nodes and initializers; equal parts are written once."""

    opset: int
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    _names: dict[Hashable, str] = field(default_factory=dict)

    def write(self, expression: Expression) -> str:
        """The name of the graph value that holds ``expression``."""
        if isinstance(expression, Constant):
            return self._constant(expression.array)
        if isinstance(expression, Piece):
            return self._split(expression)
        assert isinstance(expression, Apply)
        inputs = tuple(self.write(inner) for inner in expression.inputs)
        key = (expression.operator, inputs, expression.attributes)
        if key not in self._names:
            name = self._fresh(key)
            node = helper.make_node(expression.operator, inputs, [name])
            node.attribute.extend(
                helper.make_attribute(*attribute) for attribute in expression.attributes)
            self.nodes.append(node)
        return self._names[key]

    def _fresh(self, key: Hashable) -> str:
        return self._names.setdefault(key, f"coded~{len(self._names)}")

    def _constant(self, array: Array) -> str:
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._names:
            self.initializers.append(tensor_proto(array, self._fresh(key)))
        return self._names[key]

    def _split(self, piece: Piece) -> str:
        source = self.write(piece.source)
        names = [self._fresh(("Split", source, piece.sizes, i)) for i in range(len(piece.sizes))]
        key = ("Split", source, piece.sizes)
        if key not in self._names:
            self._fresh(key)
            if self.opset >= 13:
                sizes = self._constant(np.asarray(piece.sizes, dtype=np.int64))
                node = helper.make_node("Split", [source, sizes], names)
            else:
                node = helper.make_node("Split", [source], names, split=piece.sizes)
            self.nodes.append(node)
        return names[piece.index]

    def size_bytes(self) -> int:
        """The serialized size of what has been written, within a graph of short names."""
        graph = onnx.GraphProto(node=self.nodes, initializer=self.initializers)
        written = sum(len(name) for node in self.nodes for name in (*node.input, *node.output))
        written += sum(len(tensor.name) for tensor in self.initializers)
        mentions = len(self.initializers) + sum(
            len(node.input) + len(node.output) for node in self.nodes)
        return int(graph.ByteSize()) - written + mentions
