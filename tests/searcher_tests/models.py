"""Small valid and malicious ONNX models, as bytes."""

from collections.abc import Callable, Sequence

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

FLOAT = TensorProto.FLOAT
Shape = Sequence[int | str | None] | None


def tensor_of(*shape: int, name: str = "w") -> TensorProto:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def value_of(name: str, shape: Shape, kind: int = FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: Sequence[NodeProto], initializers: Sequence[TensorProto] = (),
    inputs: Sequence[ValueInfoProto] | None = None, domains: dict[str, int] | None = None,
    outputs: Sequence[ValueInfoProto] | None = None,
) -> ModelProto:
    """By default one input ``x`` of (open, 4) and one output ``y`` of (open, 3)."""
    graph = helper.make_graph(
        nodes, "g", [value_of("x", ["n", 4])] if inputs is None else inputs,
        [value_of("y", ["n", 3])] if outputs is None else outputs, initializers)
    versions = domains or {"": 13}
    imports = [helper.make_opsetid(name, version) for name, version in versions.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def linear() -> ModelProto:
    """x (n, 4) times w (4, 3): 12 parameters, 12 multiply-accumulates."""
    return model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor_of(4, 3)])


def with_shape(shape: Shape) -> ModelProto:
    node = helper.make_node("Identity", ["x"], ["y"])
    return model_of([node], inputs=[value_of("x", shape)], outputs=[value_of("y", None)])


def external(name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[4, 3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    return tensor


def _in_initializer() -> ModelProto:
    return model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], [external()])


def _in_attribute() -> ModelProto:
    node = helper.make_node("Constant", [], ["w"])
    node.attribute.append(AttributeProto(name="value", type=AttributeProto.TENSOR, t=external()))
    return model_of([node, helper.make_node("MatMul", ["x", "w"], ["y"])])


def _in_list_of_tensors() -> ModelProto:
    node = helper.make_node("Anything", ["x"], ["y"], domain="custom")
    node.attribute.append(AttributeProto(
        name="values", type=AttributeProto.TENSORS, tensors=[tensor_of(1), external()]))
    return model_of([node], domains={"": 13, "custom": 1})


def _branch(tensor: TensorProto) -> GraphProto:
    node = helper.make_node("Constant", [], ["b"])
    node.attribute.append(AttributeProto(name="value", type=AttributeProto.TENSOR, t=tensor))
    return helper.make_graph([node], "branch", [], [value_of("b", [4, 3])])


def _in_subgraph() -> ModelProto:
    inner = helper.make_node("If", ["c"], ["b"], then_branch=_branch(tensor_of(4, 3)),
                             else_branch=_branch(external()))
    outer = helper.make_graph([inner], "outer", [], [value_of("b", [4, 3])])
    condition = numpy_helper.from_array(np.array(True), "c")
    node = helper.make_node("If", ["c"], ["w"], then_branch=outer, else_branch=outer)
    return model_of([node, helper.make_node("MatMul", ["x", "w"], ["y"])], [condition])


def _in_function() -> ModelProto:
    constant = helper.make_node("Constant", [], ["w"])
    constant.attribute.append(AttributeProto(
        name="value", type=AttributeProto.TENSOR, t=external()))
    function = helper.make_function(
        "mine", "Mul", ["x"], ["y"], [constant, helper.make_node("MatMul", ["x", "w"], ["y"])],
        [helper.make_opsetid("", 13)])
    made = model_of([helper.make_node("Mul", ["x"], ["y"], domain="mine")],
                    domains={"": 13, "mine": 1})
    made.functions.append(function)
    return made


def _in_sparse() -> ModelProto:
    made = linear()
    sparse = made.graph.sparse_initializer.add()
    sparse.values.CopyFrom(external("s"))
    sparse.dims.extend([4, 3])
    return made


def _in_training() -> ModelProto:
    made = linear()
    made.training_info.add().initialization.initializer.append(external("t"))
    return made


def _in_memory_of_the_process() -> ModelProto:
    """ONNX Runtime interprets this location as an address in its own memory."""
    made = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], [external()])
    held = made.graph.initializer[0].external_data
    del held[:]
    held.add(key="location", value="*/_ORT_MEM_ADDR_/*")
    held.add(key="offset", value="4096")
    return made


EXTERNAL: dict[str, Callable[[], ModelProto]] = {
    "initializer": _in_initializer, "attribute": _in_attribute, "tensors": _in_list_of_tensors,
    "subgraph": _in_subgraph, "function": _in_function, "sparse": _in_sparse,
    "training": _in_training, "memory": _in_memory_of_the_process,
}


def declares(dims: Sequence[int], raw: bytes = b"\0" * 48, kind: int = FLOAT) -> ModelProto:
    """A weight that declares more, or less, data than it contains."""
    tensor = TensorProto(name="w", data_type=kind, dims=dims, raw_data=raw)
    return model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor])


def grows(elements: int) -> ModelProto:
    """A small file that needs ``4 * elements`` bytes to run."""
    size = numpy_helper.from_array(np.array([elements], np.int64), "size")
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["big"]),
             helper.make_node("ReduceSum", ["big"], ["total"], keepdims=0),
             helper.make_node("Add", ["x", "total"], ["sum"]),
             helper.make_node("MatMul", ["sum", "w"], ["y"])]
    return model_of(nodes, [size, tensor_of(4, 3)])


def loops() -> ModelProto:
    """A model that does not end in practical time."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]),
         helper.make_node("Identity", ["v"], ["next"])],
        "body", [value_of("i", [], TensorProto.INT64), value_of("go", [], TensorProto.BOOL),
                 value_of("v", ["n", 4])],
        [value_of("still", [], TensorProto.BOOL), value_of("next", ["n", 4])])
    turns = numpy_helper.from_array(np.array(2**62, np.int64), "turns")
    true = numpy_helper.from_array(np.array(True), "true")
    nodes = [helper.make_node("Loop", ["turns", "true", "x"], ["end"], body=body),
             helper.make_node("MatMul", ["end", "w"], ["y"])]
    return model_of(nodes, [turns, true, tensor_of(4, 3)])


def _field(number: int, content: bytes) -> bytes:
    """A field of the protobuf format that holds ``content``."""
    size, length = len(content), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def parts(count: int) -> bytes:
    """A file that takes 40 times its size when parsed: empty nodes of four bytes each."""
    return linear().SerializeToString() + _field(7, _field(1, _field(1, b"")) * count)


def nested(depth: int) -> bytes:
    """Subgraphs within subgraphs."""
    graph = b""
    for _ in range(depth):
        graph = _field(1, _field(5, _field(6, graph)))
    return linear().SerializeToString() + _field(7, graph)
