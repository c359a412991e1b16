"""Proofs about a finished file, from the graph that ONNX Runtime itself makes of it.

Each of these failures has silently cost a factor of two or more: a decoder that stays in the graph
and runs at every inference, a convolution that stays in float, a file that an old runtime refuses.
"""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto

from strategies.encoding.graph import input_shapes

KEEPS_SCALE = ("MaxPool", "Reshape")
"""Operators over which ONNX Runtime carries a quantization by itself."""

PROBES = 2
"""Samples of the random feeds: a batch axis that is not free shows."""

_ACTIVATIONS = ("Relu", "Clip")
"""Operators that runtimes fuse into the convolution before them."""


@dataclass(frozen=True)
class Loaded:
    """A session on one CPU thread at full optimization, and the graph it really runs."""

    session: Any
    optimized: ModelProto

    @property
    def operators(self) -> Counter[str]:
        return Counter(node.op_type for node in self.optimized.graph.node)

    def run(self, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        return list(self.session.run(None, feeds))


def load(content: bytes) -> Loaded:
    """Open ``content`` in ONNX Runtime. Raises what ONNX Runtime raises."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"])
        return Loaded(session, onnx.load_model_from_string(path.read_bytes()))


def convolutions_in_float(loaded: Loaded) -> list[str]:
    """Names (or outputs) of the convolutions of the optimized graph that compute in float."""
    return [
        node.name or node.output[0]
        for node in loaded.optimized.graph.node
        if node.op_type in ("Conv", "FusedConv", "ConvInteger")
    ]


def unquantized_convolutions(content: bytes) -> list[str]:
    """Convolutions of a file that ONNX Runtime does not run as QLinearConv; empty is good."""
    return convolutions_in_float(load(content))


def convolutions_without_pairs(graph: GraphProto) -> list[str]:
    """Names (or outputs) of the convolutions that no runtime could run in int8: those whose data
    or weight does not come from a DequantizeLinear, or whose result, after an activation, does
    not go to QuantizeLinear alone. Empty is good."""
    producer = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}

    def dequantized(name: str) -> bool:
        source = producer.get(name)
        while source is not None and source.op_type in KEEPS_SCALE:
            source = producer.get(source.input[0])
        return source is not None and source.op_type == "DequantizeLinear"

    def quantized(name: str) -> bool:
        after = readers.get(name, [])
        if len(after) == 1 and after[0].op_type in _ACTIVATIONS:
            return quantized(after[0].output[0])
        return bool(after) and name not in outputs and all(
            node.op_type == "QuantizeLinear" for node in after)

    return [node.name or node.output[0] for node in graph.node if node.op_type == "Conv" and not (
        dequantized(node.input[0]) and dequantized(node.input[1]) and quantized(node.output[0]))]


def left_unfolded(plain: Loaded, coded: Loaded) -> list[str]:
    """Operators that ``coded`` runs beyond those of ``plain``; empty when the codec is folded."""
    return sorted((coded.operators - plain.operators).elements())


def probe(graph: onnx.GraphProto, batch: int = PROBES) -> dict[str, NDArray[Any]]:
    """Fixed random feeds for every input of ``graph``: floats in [-1, 1), integers and booleans 0
    or 1, which every vocabulary and mask has."""
    generator = np.random.default_rng(0)
    shapes = input_shapes(graph, batch)
    feeds: dict[str, NDArray[Any]] = {}
    for value in graph.input:
        if value.name not in shapes:
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        drawn = generator.random(shapes[value.name], dtype=np.float32) * 2 - 1
        floats = np.issubdtype(dtype, np.floating)
        feeds[value.name] = (drawn if floats else drawn >= 0).astype(dtype)
    return feeds


def same_bits(left: list[NDArray[Any]], right: list[NDArray[Any]]) -> bool:
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(left, right, strict=True)
    )
