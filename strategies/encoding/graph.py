"""Rewrites of an ONNX graph that change neither its outputs nor its weights."""

import copy
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

Array = NDArray[Any]

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_DEFAULT_ONES = {
    (operator, name)
    for operator in ("Conv", "MaxPool", "AveragePool", "QLinearConv")
    for name in ("dilations", "strides")
}
_DEFAULT_SCALARS: dict[tuple[str, str], float] = {
    ("Conv", "group"): 1,
    ("MaxPool", "ceil_mode"): 0,
    ("MaxPool", "storage_order"): 0,
    ("AveragePool", "ceil_mode"): 0,
    ("AveragePool", "count_include_pad"): 0,
    ("Gemm", "alpha"): 1.0,
    ("Gemm", "beta"): 1.0,
    ("Gemm", "transA"): 0,
    ("Gemm", "transB"): 0,
    ("Flatten", "axis"): 1,
    ("QuantizeLinear", "axis"): 1,
    ("DequantizeLinear", "axis"): 1,
    ("Reshape", "allowzero"): 0,
    ("Gather", "axis"): 0,
}


def constants(graph: GraphProto) -> dict[str, Array]:
    """The initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def has_subgraphs(graph: GraphProto) -> bool:
    return any(
        attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS)
        for node in graph.node
        for attribute in node.attribute
    )


def replace(field: Any, items: list[Any]) -> None:
    """Give a repeated protobuf field exactly ``items``."""
    kept = [copy.deepcopy(item) if not isinstance(item, str) else item for item in items]
    del field[:]
    field.extend(kept)


def tidy(model: ModelProto) -> None:
    """In place: Constant nodes and Identity(initializer) become initializers, what nothing reads
    is removed, and so are stray opset imports, documentation and the producer's mark.

    A bias read through Identity keeps ONNX Runtime from fusing an int8 convolution, and an import
    that no node uses makes old runtimes refuse the file.
    """
    graph = model.graph
    _constants_to_initializers(graph)
    _identities_to_copies(graph)
    remove_dead(graph)
    used = {node.domain for node in graph.node} | {""}
    replace(model.opset_import, [entry for entry in model.opset_import if entry.domain in used])
    for field in ("producer_name", "producer_version", "doc_string", "domain", "model_version"):
        model.ClearField(field)
    graph.ClearField("doc_string")
    graph.ClearField("value_info")
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


def _constants_to_initializers(graph: GraphProto) -> None:
    kept = []
    for node in graph.node:
        value = next((a for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and node.domain == "" and value is not None:
            tensor = copy.deepcopy(value.t)
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(node)
    replace(graph.node, kept)


def _identities_to_copies(graph: GraphProto) -> None:
    by_name = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        copied = node.op_type == "Identity" and node.input[0] in by_name
        if copied and node.output[0] not in outputs:
            tensor = graph.initializer.add()
            tensor.CopyFrom(by_name[node.input[0]])
            tensor.name = node.output[0]
            by_name[tensor.name] = tensor
        else:
            kept.append(node)
    replace(graph.node, kept)


def _reads(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _reads(attribute.g)
            for inner in attribute.graphs:
                yield from _reads(inner)
    for value in graph.output:
        yield value.name


def unsign_zeros(graph: GraphProto) -> None:
    """In place: -0.0 in initializers becomes 0.0. A mask leaves -0.0 where it covers a negative
    weight; a codec that keeps every bit would have to store all of those signs."""
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor)
            negative = (array == 0) & np.signbit(array)
            if negative.any():
                name = tensor.name
                tensor.CopyFrom(numpy_helper.from_array(np.where(negative, 0, array), name))


def remove_dead(graph: GraphProto) -> None:
    """In place: remove initializers that nothing reads."""
    read = set(_reads(graph))
    replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in read])


def drop_defaults(graph: GraphProto) -> None:
    """In place: remove attributes that say what ONNX assumes anyway, kernel shapes that the
    weight's shape repeats, and zero points of int32 biases."""
    values = constants(graph)
    for node in graph.node:
        replace(node.attribute, [a for a in node.attribute if not _is_default(node, a, values)])
        if node.op_type == "DequantizeLinear" and len(node.input) == 3:
            zero_point = values.get(node.input[2])
            if zero_point is not None and zero_point.dtype == np.int32 and not zero_point.any():
                del node.input[2]
    remove_dead(graph)


def _is_default(node: NodeProto, attribute: AttributeProto, values: dict[str, Array]) -> bool:
    value = onnx.helper.get_attribute_value(attribute)
    key = (node.op_type, attribute.name)
    if key in _DEFAULT_ONES:
        return set(value) == {1}
    if attribute.name == "pads" and node.op_type in ("Conv", "MaxPool", "AveragePool"):
        return not any(value)
    if key == ("Conv", "kernel_shape"):
        return node.input[1] in values and values[node.input[1]].shape[2:] == tuple(value)
    return key in _DEFAULT_SCALARS and value == _DEFAULT_SCALARS[key]


def _short_names() -> Iterator[str]:
    for length in range(1, 9):
        for letters in product(ALPHABET, repeat=length):
            yield "".join(letters)


def shorten_names(graph: GraphProto) -> None:
    """In place: the names used most become the shortest; inputs and outputs keep theirs."""
    graph.name = "g"
    for node in graph.node:
        node.ClearField("name")
    if has_subgraphs(graph):
        return
    fixed = {value.name for value in (*graph.input, *graph.output)}
    uses: Counter[str] = Counter(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        uses.update(name for name in (*node.input, *node.output) if name)
    fresh = (name for name in _short_names() if name not in fixed)
    names = {"": "", **{name: name for name in fixed}}
    names.update((old, next(fresh)) for old, _ in uses.most_common() if old not in fixed)
    for node in graph.node:
        replace(node.input, [names[name] for name in node.input])
        replace(node.output, [names[name] for name in node.output])
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]


_INTEGER_FIELD = {
    np.dtype(np.int64): "int64_data",
    np.dtype(np.int32): "int32_data",
    np.dtype(np.int8): "int32_data",
    np.dtype(np.uint8): "int32_data",
}


def tensor_proto(array: Array, name: str) -> TensorProto:
    """``array`` in the shorter of protobuf's two encodings: raw bytes, or varints for integers."""
    raw = TensorProto(
        name=name,
        dims=array.shape,
        data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
        raw_data=np.ascontiguousarray(array).tobytes(),
    )
    field = _INTEGER_FIELD.get(array.dtype)
    if field is None or not 0 < array.size <= 64:
        return raw
    typed = TensorProto(name=name, dims=array.shape, data_type=raw.data_type)
    getattr(typed, field).extend(int(value) for value in array.ravel())
    return min(raw, typed, key=TensorProto.ByteSize)


def input_shapes(graph: GraphProto, batch: int) -> dict[str, tuple[int, ...]]:
    """The shape of each graph input with unknown dimensions set to ``batch``."""
    held = {tensor.name for tensor in graph.initializer}
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else batch
            for dim in value.type.tensor_type.shape.dim
        )
        for value in graph.input
        if value.name not in held
    }


def check_format(model: ModelProto, opset: int, ir_version: int) -> str | None:
    """What is wrong with the model's opset or IR version, or None."""
    actual = {entry.domain: entry.version for entry in model.opset_import}
    if actual.get("", 0) > opset:
        return f"the graph needs opset {actual['']}, the target loads at most {opset}"
    if model.ir_version > ir_version:
        return f"the file has IR version {model.ir_version}, the target loads at most {ir_version}"
    return None
