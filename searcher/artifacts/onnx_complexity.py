"""What a model costs, counted on its ONNX graph: multiply-accumulates, parameters and bytes.

A multiply-accumulate counts once, bias additions and activations count nothing, and the batch is
one; on fp32 models this equals half of ``torch.utils.flop_counter``. Coded and quantized weights
are decoded first, so every file of fleetfront can be counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from searcher.artifacts.complexity import Complexity, LayerComplexity
from searcher.errors import UserError

Array = NDArray[Any]
Shape = tuple[int, ...]

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

_NEVER_FOLDED = frozenset({"DequantizeLinear", "RandomNormal", "RandomUniform"})


@dataclass(frozen=True)
class _Graph:
    """A graph with its decoders evaluated: what is constant, and the shape of what is not."""

    nodes: list[NodeProto]
    constants: Mapping[str, Array]
    shapes: Mapping[str, Shape]
    producers: Mapping[str, NodeProto]

    def weight(self, name: str) -> tuple[str, Array] | None:
        """(initializer, values minus zero point) behind ``name``; None for an activation."""
        if name in self.constants:
            return name, self.constants[name]
        node = self.producers.get(name)
        if node is None or node.op_type not in ("DequantizeLinear", "Identity", "Transpose"):
            return None
        found = self.weight(node.input[0])
        if found is None or node.op_type != "DequantizeLinear" or len(node.input) < 3:
            return found
        zero = self.constants.get(node.input[2])
        if zero is None or not zero.any():
            return found
        return found[0], found[1].astype(np.int32) - zero.astype(np.int32).ravel()[0]


def complexity(model: ModelProto | Path | str) -> Complexity:
    """Count ``model``, a path or a loaded model with a single batch axis.

    Raises UserError when the file cannot be read or does not run.
    """
    loaded = model if isinstance(model, ModelProto) else _read(Path(model))
    graph = _prepared(loaded)
    layers = tuple(
        layer for index, node in enumerate(graph.nodes)
        if (layer := _layer(graph, node, index)) is not None
    )
    return Complexity(
        parameters=_parameters(graph),
        macs=sum(layer.macs for layer in layers),
        layers=layers,
    )


def _read(path: Path) -> ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:
        raise UserError(f"{path} cannot be read as an ONNX file: {error}") from error


def _prepared(model: ModelProto) -> _Graph:
    """Run ``model`` once on one sample of zeros: decoders give weights, layers give shapes."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    decoders, nodes = _split_constant(model.graph, set(values))
    layers = [node for node in nodes if node.op_type in LAYERS]
    asked = {name for node in nodes for name in node.input}
    asked &= {name for node in decoders for name in node.output}
    asked |= {name for node in layers for name in (*node.input[:2], node.output[0])}
    asked -= {*values, *(value.name for value in model.graph.input)}
    shapes: dict[str, Shape] = {name: array.shape for name, array in values.items()}
    feeds = _one_sample(model.graph, set(values))
    shapes.update((name, array.shape) for name, array in feeds.items())
    decoded = {name for node in decoders for name in node.output}
    for name, array in _run(model, feeds, sorted(asked)).items():
        shapes[name] = array.shape
        if name in decoded:
            values[name] = array
    return _Graph(nodes, values, shapes, {name: n for n in nodes for name in n.output})


def _split_constant(
    graph: GraphProto, known: set[str]
) -> tuple[list[NodeProto], list[NodeProto]]:
    """(nodes that a runtime folds at load because they depend on constants only, the rest)."""
    known = {"", *known}
    constant: list[NodeProto] = []
    rest: list[NodeProto] = []
    for node in graph.node:
        simple = not any(a.HasField("g") or a.graphs for a in node.attribute)
        if simple and node.op_type not in _NEVER_FOLDED and known.issuperset(node.input):
            constant.append(node)
            known.update(node.output)
        else:
            rest.append(node)
    return constant, rest


def _one_sample(graph: GraphProto, held: set[str]) -> dict[str, Array]:
    feeds = {}
    for value in graph.input:
        if value.name in held:
            continue
        shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = np.zeros(shape, dtype=kind)
    return feeds


def _run(model: ModelProto, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
    """The values named ``outputs``, inner ones of the graph included."""
    if not outputs:
        return {}
    opened = ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip(outputs, session.run(outputs, feeds), strict=True))
    except Exception as error:
        raise UserError(f"The model does not run in ONNX Runtime on one sample: {error}") from error


def _parameters(graph: _Graph) -> int:
    """Elements of all distinct float tensors that are read, and of what DequantizeLinear reads;
    scales, zero points and shapes are no parameters."""
    counted: dict[str, int] = {}
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            continue
        inputs = node.input[:1] if node.op_type == "DequantizeLinear" else node.input
        for name in inputs:
            array = graph.constants.get(name)
            if array is None:
                continue
            if node.op_type == "DequantizeLinear" or array.dtype.kind == "f":
                counted[name] = array.size
    return sum(counted.values())


def _layer(graph: _Graph, node: NodeProto, index: int) -> LayerComplexity | None:
    if node.op_type not in LAYERS:
        return None
    found = graph.weight(node.input[1]) or graph.weight(node.input[0])
    output = graph.shapes[node.output[0]]
    macs = _macs(graph, node, output)
    activation_bytes = prod(output) * _element_bytes(graph, node)
    if found is None:
        return LayerComplexity(
            node.name or f"{node.op_type}_{index}", node.op_type, macs, 0, 0, activation_bytes, 0,
            1.0)
    name, weight = found
    bias = graph.weight(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    arrays = [weight] if bias is None else [weight, bias[1]]
    stored = [graph.constants[name]] + ([] if bias is None else [graph.constants[bias[0]]])
    return LayerComplexity(
        name=_layer_name(node, name, index),
        op=node.op_type,
        macs=macs,
        parameters=sum(array.size for array in arrays),
        weight_bytes=sum(array.nbytes for array in stored),
        activation_bytes=activation_bytes,
        distinct_values=int(np.unique(weight).size),
        nonzero_share=float(np.count_nonzero(weight) / weight.size) if weight.size else 1.0,
    )


def _layer_name(node: NodeProto, weight: str, index: int) -> str:
    """The module that the weight belongs to where the file still says so."""
    module, dot, rest = weight.rpartition(".weight")
    if dot and rest in ("", "_quantized"):
        return module
    return node.name or f"{node.op_type}_{index}"


def _element_bytes(graph: _Graph, node: NodeProto) -> int:
    """1 when the output, perhaps after an activation, is quantized at once; else 4."""
    names = set(node.output)
    for reader in graph.nodes:
        if names.intersection(reader.input):
            if reader.op_type == "QuantizeLinear":
                return 1
            if reader.op_type in ("Relu", "Clip"):
                names.update(reader.output)
    return 4


def _macs(graph: _Graph, node: NodeProto, output: Shape) -> int:
    left, right = (graph.shapes[name] for name in node.input[:2])
    if node.op_type == "Conv":
        return prod(output) * prod(right[1:])
    if node.op_type == "ConvTranspose":
        return prod(left) * prod(right[1:])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(output) * (left[0] if transposed else left[-1])
