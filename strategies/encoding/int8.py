"""Post-training int8 quantization by ONNX Runtime's quantizer, in QuantizeLinear pairs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import Tensor

from strategies.base import EncodingStrategy, Layer, Limits, StrategyError, Suggester
from strategies.encoding import gates
from strategies.encoding.export import read_weight_scales
from strategies.encoding.graph import (
    Array,
    check_format,
    constants,
    input_shapes,
    remove_dead,
    replace,
    tensor_proto,
    tidy,
)
from strategies.encoding.int8_calibration import calibrated
from strategies.number_formats import INT8
from strategies.target import Target

_LOWEST_OPSET = 13
_CALIBRATION_BATCH = 64
_LARGEST = 127


class _Batches(CalibrationDataReader):
    def __init__(self, calibration: Mapping[str, Array]) -> None:
        samples = min(map(len, calibration.values()))
        self._feeds: Iterator[dict[str, Array]] = (
            {name: values[start : start + _CALIBRATION_BATCH]
             for name, values in calibration.items()}
            for start in range(0, samples, _CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


@dataclass(frozen=True)
class Int8(EncodingStrategy):
    """Weights in int8 with one scale per output channel, activations in the target's 8-bit type
    with ranges from calibration."""

    name: ClassVar[str] = "int8"
    number_format: ClassVar[str] = INT8
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "8-bit integer weights and activations, calibrated after training."
    paper: ClassVar[str] = "Jacob et al. 2018, arXiv:1712.05877"
    limits_text: ClassVar[str] = (
        "Every convolution must run in int8 in ONNX Runtime; opset 13 or higher.")
    requires: ClassVar[frozenset[str]] = frozenset({INT8})
    groups: ClassVar[tuple[str, ...]] = ("model",)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        return cls()

    def encode(
        self, graph: ModelProto, calibration: tuple[Tensor, ...], target: Target, folder: Path
    ) -> ModelProto:
        """Raises StrategyError(``unsupported_target`` | ``unsupported_graph`` |
        ``gate_unquantized``)."""
        if INT8 not in target.number_formats:
            raise StrategyError("The device does not compute in int8, its profile says; leave "
                                "int8 out for it.", "unsupported_target")
        if target.opset < _LOWEST_OPSET:
            raise StrategyError(
                f"int8 with scales per channel needs opset {_LOWEST_OPSET}, the target has "
                f"{target.opset}; leave int8 out for it.", "unsupported_target")
        feeds = _by_name(graph.graph, calibration)
        quantized = calibrated(_quantize(graph, feeds, target, folder), _prepared(graph), feeds,
                               fixed=list(read_weight_scales(graph)))
        tidy(quantized)
        quantized.ir_version = min(quantized.ir_version, target.ir_version)
        wrong = check_format(quantized, target.opset, target.ir_version)
        if wrong:
            raise StrategyError(f"The int8 graph does not fit the target: {wrong}.",
                                "unsupported_graph")
        return _checked(quantized, target)


def _by_name(graph: GraphProto, calibration: tuple[Tensor, ...]) -> dict[str, Array]:
    """The calibration samples by input. Raises StrategyError(``unsupported_graph``)."""
    names = list(input_shapes(graph, 1))
    if len(names) != len(calibration):
        raise StrategyError(f"The graph has {len(names)} inputs ({', '.join(names)}), the "
                            f"calibration samples have {len(calibration)}.", "unsupported_graph")
    if min(map(len, calibration), default=0) == 0:
        raise StrategyError("int8 needs at least one calibration sample.", "unsupported_graph")
    return {name: tensor.detach().cpu().numpy()
            for name, tensor in zip(names, calibration, strict=True)}


def _quantize(
    graph: ModelProto, calibration: Mapping[str, Array], target: Target, folder: Path
) -> ModelProto:
    activations = (
        QuantType.QUInt8 if target.int8_activations == "uint8" else QuantType.QInt8)
    prepared = _prepared(graph)
    overrides = _overrides(prepared)
    # Tells the quantizer that its own pre-processing, which adds opset imports that ONNX Runtime
    # 1.11 refuses, is not wanted; without it, it warns.
    onnx.helper.set_model_props(prepared, {"onnx.quant.pre_process": "onnxruntime.quant"})
    path = folder / "int8.onnx"
    try:
        quantize_static(
            prepared, path, _Batches(calibration),
            quant_format=QuantFormat.QDQ, calibrate_method=CalibrationMethod.MinMax,
            per_channel=True, activation_type=activations, weight_type=QuantType.QInt8,
            extra_options={
                "TensorQuantOverrides": overrides,
                "ActivationSymmetric": target.int8_activations == "int8",
            },
        )
        quantized = onnx.load(path)
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise StrategyError(
            f"ONNX Runtime cannot quantize the graph: {error}", "unsupported_graph") from error
    finally:
        path.unlink(missing_ok=True)
    del quantized.metadata_props[:]
    return quantized


def _prepared(graph: ModelProto) -> ModelProto:
    prepared = ModelProto()
    prepared.CopyFrom(graph)
    tidy(prepared)
    return prepared


def _overrides(graph: ModelProto) -> dict[str, list[dict[str, int | np.generic]]]:
    """Scale and zero point of every channel of every weight that is quantized per channel."""
    given = read_weight_scales(graph)
    weights = constants(graph.graph)
    overrides: dict[str, list[dict[str, int | np.generic]]] = {}
    for node in graph.graph.node:
        axis = _channel_axis(node)
        if axis is None or node.input[1] not in weights:
            continue
        name, weight = node.input[1], weights[node.input[1]]
        if node.op_type == "MatMul" and weight.ndim != 2:
            continue
        scales = given.get(name) or channel_scales(weight, axis).tolist()
        if len(scales) != weight.shape[axis]:
            raise StrategyError(
                f"Weight {name!r} has {weight.shape[axis]} output channels but {len(scales)} int8 "
                "scales.", "unsupported_graph")
        overrides[name] = [
            {"axis": axis, "scale": np.float32(scale), "zero_point": np.int8(0)}
            for scale in scales
        ]
    return overrides


def _channel_axis(node: NodeProto) -> int | None:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
        return 0 if transposed else 1
    return 1 if node.op_type == "MatMul" else None


def channel_scales(weight: Array, axis: int) -> Array:
    """float32 scales that map each channel onto -127..127, rounded up to float16 where that
    costs less than a thousandth: the codec then stores two bytes for each."""
    others = tuple(k for k in range(weight.ndim) if k != axis)
    largest = np.abs(weight).max(axis=others, initial=0).astype(np.float32)
    exact = np.where(largest > 0, largest / np.float32(_LARGEST), np.float32(1))
    exact = np.maximum(exact, np.finfo(np.float32).tiny).astype(np.float32)
    short = np.minimum(exact, 60000).astype(np.float16)
    short = np.where(short < exact, np.nextafter(short, np.float16(np.inf)), short)
    short = short.astype(np.float32)
    close = (short >= exact) & (short <= exact * np.float32(1.001))
    return np.where(close, short, exact).astype(np.float32)


def _checked(quantized: ModelProto, target: Target) -> ModelProto:
    """The graph with fewer pairs if ONNX Runtime makes of it what it makes of ``quantized``."""
    loaded = gates.load(quantized.SerializeToString())
    left = gates.convolutions_in_float(loaded)
    # Signed activations are for other processors; this one keeps some of them in float, so for
    # them the graph itself has to show that each convolution may be fused.
    if target.int8_activations == "int8":
        left_open = gates.convolutions_without_pairs(quantized.graph)
        if left_open:
            raise StrategyError(
                f"{len(left_open)} convolutions are not enclosed in quantization pairs, "
                f"{left_open[0]!r} first; no runtime can run them in int8.", "gate_unquantized")
    elif left:
        raise StrategyError(
            f"ONNX Runtime keeps {len(left)} convolutions in float, {left[0]!r} first; the graph "
            "has an operator between them that it cannot quantize.", "gate_unquantized")
    slim = ModelProto()
    slim.CopyFrom(quantized)
    drop_needless_pairs(slim.graph)
    again = gates.load(slim.SerializeToString())
    fewer = sum(again.operators.values()) <= sum(loaded.operators.values())
    enclosed = not gates.convolutions_without_pairs(slim.graph)
    if fewer and enclosed and len(gates.convolutions_in_float(again)) <= len(left):
        return slim
    return quantized


def drop_needless_pairs(graph: GraphProto) -> None:
    """In place: remove QuantizeLinear/DequantizeLinear pairs after operators that keep the scale
    of their input, and the pair behind a final Gemm or MatMul, whose output stays in float."""
    shape = "flat~shape"
    producer = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "Flatten" and _axis(node) == 1:
            node.op_type = "Reshape"
            del node.attribute[:]
            node.input.append(shape)
    graph.initializer.append(tensor_proto(np.array([0, -1], dtype=np.int64), shape))
    outputs = {value.name for value in graph.output}
    for pair_end in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        pair_start = producer.get(pair_end.input[0])
        source = producer.get(pair_start.input[0]) if pair_start is not None else None
        if pair_start is None or source is None:
            continue
        last = pair_end.output[0] in outputs and source.op_type in ("Gemm", "MatMul")
        if last or _same_scale(source, pair_start, producer):
            _bypass(graph, source, pair_start, pair_end, outputs)
    remove_dead(graph)


def _axis(node: NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "axis"), 1)


def _same_scale(source: NodeProto, pair_start: NodeProto, producer: dict[str, NodeProto]) -> bool:
    """``source`` and what comes before it up to a DequantizeLinear keep the scale that
    ``pair_start`` applies."""
    while source.op_type in gates.KEEPS_SCALE:
        before = producer.get(source.input[0])
        if before is None:
            return False
        if before.op_type == "DequantizeLinear":
            return list(before.input[1:]) == list(pair_start.input[1:])
        source = before
    return False


def _bypass(
    graph: GraphProto, source: NodeProto, pair_start: NodeProto, pair_end: NodeProto,
    outputs: set[str],
) -> None:
    old, new = pair_end.output[0], pair_start.input[0]
    if old in outputs:
        readers = [n for n in graph.node if new in n.input]
        if len(readers) > 1:
            return
        replace(source.output, [old if name == new else name for name in source.output])
    for node in graph.node:
        if old in node.input and old not in outputs:
            replace(node.input, [new if name == old else name for name in node.input])
    if sum(pair_start.output[0] in node.input for node in graph.node) == 1:
        graph.node.remove(pair_start)
    graph.node.remove(pair_end)
