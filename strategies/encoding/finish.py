"""From a graph to the bytes of an artifact: codec, short names, and proofs."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto

from strategies.base import StrategyError
from strategies.encoding import gates
from strategies.encoding.export import read_weight_scales
from strategies.encoding.graph import (
    check_format,
    constants,
    drop_defaults,
    shorten_names,
    tidy,
)
from strategies.encoding.weight_codec import encode_weights
from strategies.target import Target


@dataclass(frozen=True)
class Encoded:
    """``content`` is the file; graphs of one ``graph_key`` run equally fast, whatever their
    weights; ``fold_checked`` says that ONNX Runtime was seen to fold the weight codec away."""

    content: bytes
    graph_key: str
    fold_checked: bool


def finish(model: ModelProto, target: Target) -> Encoded:
    """The smallest file that computes bit by bit what ``model`` does; ``model`` stays as it is.

    Raises StrategyError(``gate_format`` | ``gate_load`` | ``gate_folded`` | ``gate_parity``).
    """
    plain = ModelProto()
    plain.CopyFrom(model)
    del plain.metadata_props[:]
    tidy(plain)
    plain.ir_version = min(plain.ir_version, target.ir_version)
    wrong = check_format(plain, target.opset, target.ir_version)
    if wrong:
        raise StrategyError(f"The file does not fit the target: {wrong}.", "gate_format")
    slim = ModelProto()
    slim.CopyFrom(plain)
    drop_defaults(slim.graph)
    coded = encode_weights(slim, read_weight_scales(model))
    shorten_names(coded.graph)
    content = coded.SerializeToString(deterministic=True)
    prove(plain.SerializeToString(), content)
    return Encoded(content, graph_key(slim), fold_checked=True)


def prove(plain: bytes, coded: bytes) -> None:
    """Raise StrategyError unless ``coded`` loads, is folded into the graph that ``plain`` becomes
    and gives the same bits on a random input."""
    loaded = {}
    for name, content in (("uncoded", plain), ("coded", coded)):
        try:
            loaded[name] = gates.load(content)
        except Exception as error:
            raise StrategyError(
                f"ONNX Runtime cannot load the {name} file: {error}", "gate_load") from error
    extra = gates.left_unfolded(loaded["uncoded"], loaded["coded"])
    if extra:
        raise StrategyError(
            f"ONNX Runtime did not fold the coded weights: {', '.join(extra)} would run at every "
            "inference.", "gate_folded")
    feeds = gates.probe(onnx.load_model_from_string(plain).graph)
    try:
        answers = [loaded[name].run(feeds) for name in ("uncoded", "coded")]
    except Exception as error:
        raise StrategyError(
            f"The exported file does not run on {gates.PROBES} samples, although its batch axis is "
            f"free; does the model's forward fix the number of samples? ONNX Runtime: {error}",
            "unsupported_graph") from error
    if not gates.same_bits(*answers):
        raise StrategyError(
            "The coded file gives other outputs than the uncoded one on a random input; this is a "
            "defect of the weight codec.", "gate_parity")


def graph_key(model: ModelProto) -> str:
    """A hash of operators, attributes, wiring and shapes; blind to names and weights.

    Integer tensors of shapes and axes count with their values: they decide what runs.
    """
    graph = model.graph
    numbers: dict[str, object] = {"": None}
    for value in graph.input:
        dims = [d.dim_value or "free" for d in value.type.tensor_type.shape.dim]
        numbers[value.name] = ["input", value.type.tensor_type.elem_type, dims]
    for name, array in constants(graph).items():
        shaping = array.dtype == np.int64
        numbers[name] = [str(array.dtype), list(array.shape), array.tolist() if shaping else None]
    structure = []
    for index, node in enumerate(graph.node):
        attributes = sorted(
            (a.name, repr(onnx.helper.get_attribute_value(a))) for a in node.attribute)
        wires = [numbers[name] for name in node.input]
        structure.append([node.domain, node.op_type, attributes, wires])
        numbers.update((name, [index, k]) for k, name in enumerate(node.output))
    outputs = [numbers[value.name] for value in graph.output]
    versions = sorted((entry.domain, entry.version) for entry in model.opset_import)
    text = json.dumps([versions, structure, outputs], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
