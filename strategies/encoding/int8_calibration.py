"""Better numbers for a quantized graph: ranges of activations, weights on their grid, biases.

Of a few percentiles, the ranges are those whose outputs are nearest to the float graph's on the
calibration samples. Weights are rounded with error feedback (Frantar et al. 2023, GPTQ), and
biases make up for what rounding and clipping take from the mean of each channel (Nagel et al.
2019, Data-Free Quantization). The operators of the graph stay.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import GraphProto, ModelProto, NodeProto
from torch import Tensor

from strategies.encoding.graph import Array, constants, replace, tensor_proto
from strategies.repair.gptq import dampened, quantize, toward
from strategies.repair.layer_inputs import Geometry, Sums
from strategies.repair.masks import compensated

PERCENTILES = (100.0, 99.999, 99.99, 99.9)
SAMPLES = 512
BATCH_BYTES = 1 << 28
"""Of the activations of one batch."""
MOST_VALUES = 1 << 18
"""Values of one activation that its percentiles are taken from, evenly spaced."""
MOST_POSITIONS = 4096
"""Positions of feature maps from which one layer is solved: at 8 bits little is to be won."""
LARGEST = 127

_USUAL = {"auto_pad": b"NOTSET", "transA": 0, "alpha": 1.0, "beta": 1.0}
"""Attributes with which a layer is left to its first numbers unless they are these."""

Feeds = Mapping[str, Array]
Numbers = dict[str, Array]
"""Initializers of the quantized graph that are to be others."""


@dataclass(frozen=True)
class _Activation:
    """A tensor of the float graph and the initializers by which it is quantized."""

    tensor: str
    scale: str
    zero_point: str


@dataclass(frozen=True)
class _Layer:
    """A convolution or Gemm of the quantized graph with a constant weight; the names of
    initializers. ``rows_first``: output channels are the first axis of the weight."""

    input: _Activation
    geometry: Geometry
    weight: str
    weight_scale: str
    rows_first: bool
    bias: str | None
    bias_scale: str | None


def calibrated(quantized: ModelProto, plain: ModelProto, calibration: Feeds, fixed: Sequence[str]
               ) -> ModelProto:
    """A copy of ``quantized`` with other numbers where those bring its outputs nearer to those of
    ``plain``, the float graph with the same names of tensors. ``calibration`` holds (n, ...)
    samples of each input; weights of ``plain`` that are named in ``fixed`` stay as they are. The
    same arguments give the same bits."""
    feeds = {name: values[:SAMPLES] for name, values in calibration.items()}
    activations, layers = _parsed(quantized.graph, plain.graph)
    if not activations:
        return quantized
    session = _Float(plain, sorted({part.tensor for part in activations}), feeds)
    values = session.values()
    candidates = _Candidates(quantized, feeds, session.outputs)
    weights, present = constants(plain.graph), constants(quantized.graph)
    bounds = {name: np.percentile(found, [[100 - p for p in PERCENTILES], PERCENTILES])
              for name, found in values.items()}
    for place in range(len(PERCENTILES)):
        ranges = _ranges(activations, {name: found[:, place] for name, found in bounds.items()},
                         present)
        candidates.offer({**ranges, **_biases(layers, weights, {**present, **ranges}, {})})
    if layers:
        chosen = {**present, **candidates.numbers}
        moved = _moments(session, layers, chosen)
        for free in ({layer.weight for layer in layers} - {
                f"{name}_quantized" for name in fixed}, set[str]()):
            ranges = {name: chosen[name] for part in activations
                      for name in (part.scale, part.zero_point)}
            candidates.offer({**ranges, **_solved(layers, weights, chosen, moved, free)})
    return candidates.best


class _Candidates:
    """Keeps the graph whose outputs are nearest to ``wanted``."""

    def __init__(self, quantized: ModelProto, feeds: Feeds, wanted: Mapping[str, Array]) -> None:
        self._feeds, self._wanted = feeds, wanted
        self.best, self.numbers = quantized, Numbers()
        self._error = self._error_of(quantized)

    def offer(self, numbers: Numbers) -> None:
        """Takes ``self.best`` with ``numbers`` in place of its own, if that is better."""
        graph = ModelProto()
        graph.CopyFrom(self.best)
        replace(graph.graph.initializer, [
            tensor_proto(numbers[tensor.name], tensor.name) if tensor.name in numbers else tensor
            for tensor in graph.graph.initializer])
        error = self._error_of(graph)
        if error < self._error:
            self.best, self.numbers, self._error = graph, {**self.numbers, **numbers}, error

    def _error_of(self, graph: ModelProto) -> float:
        """The squared error of all outputs, each relative to its own variance."""
        session, names = _session(graph), list(self._wanted)
        sums = dict.fromkeys(names, 0.0)
        start = 0
        for batch in _batches(self._feeds, 64):
            found = session.run(names, batch)
            for name, part in zip(names, found, strict=True):
                wanted = self._wanted[name][start : start + len(part)]
                sums[name] += float(np.square(
                    part.astype(np.float64) - wanted.astype(np.float64)).sum())
            start += len(next(iter(batch.values())))
        spread = {name: float(np.square(
            (values - values.mean(0)).astype(np.float64)).sum())
            for name, values in self._wanted.items()}
        return sum(error / max(spread[name], 1e-30) for name, error in sums.items())


class _Float:
    """The float graph with the activations among its outputs."""

    def __init__(self, plain: ModelProto, tensors: Sequence[str], feeds: Feeds) -> None:
        graph = ModelProto()
        graph.CopyFrom(plain)
        given = {value.name for value in plain.graph.input}
        returned = [value.name for value in plain.graph.output]
        self._inputs = [name for name in tensors if name in given]
        self._names = [name for name in tensors if name not in given]
        for name in self._names:
            if name not in returned:
                graph.graph.output.append(onnx.ValueInfoProto(name=name))
        self._session, self._feeds = _session(graph), feeds
        one = self._session.run(None, {name: values[:1] for name, values in feeds.items()})
        size = max(1, BATCH_BYTES // max(sum(part.nbytes for part in one), 1))
        self._size = min(64, size)
        self.rounds = -(-min(map(len, feeds.values())) // self._size)
        self.outputs = self._outputs(returned)

    def batches(self) -> Iterator[dict[str, Array]]:
        """The activations of each batch of samples, by name."""
        for batch in _batches(self._feeds, self._size):
            found = self._session.run(self._names, batch) if self._names else []
            yield {**dict(zip(self._names, found, strict=True)),
                   **{name: batch[name] for name in self._inputs}}

    def values(self) -> dict[str, Array]:
        """Evenly spaced values of each activation, and its smallest and largest."""
        parts: dict[str, list[Array]] = {}
        samples = len(next(iter(self._feeds.values())))
        for batch in self.batches():
            for name, part in batch.items():
                flat = part.ravel()
                most = max(1, MOST_VALUES * len(part) // max(samples, 1))
                every = max(1, -(-flat.size // most)) | 1
                parts.setdefault(name, []).append(
                    np.concatenate([flat[::every], [flat.min(), flat.max()]]))
        return {name: np.concatenate(found) for name, found in parts.items()}

    def _outputs(self, names: Sequence[str]) -> dict[str, Array]:
        parts = [self._session.run(list(names), batch)
                 for batch in _batches(self._feeds, self._size)]
        return {name: np.concatenate([part[place] for part in parts])
                for place, name in enumerate(names)}


def _session(graph: ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _batches(feeds: Feeds, size: int) -> Iterator[dict[str, Array]]:
    for start in range(0, min(map(len, feeds.values())), size):
        yield {name: values[start : start + size] for name, values in feeds.items()}


def _parsed(quantized: GraphProto, plain: GraphProto) -> tuple[list[_Activation], list[_Layer]]:
    """What is quantized in the graph, as far as the float graph has it under the same name."""
    producer = {name: node for node in quantized.node for name in node.output}
    held = {tensor.name for tensor in quantized.initializer}
    known = {name for node in plain.node for name in node.output}
    known |= {value.name for value in plain.input}
    activations: dict[str, _Activation] = {}
    for node in quantized.node:
        if node.op_type == "QuantizeLinear" and len(node.input) == 3:
            tensor = node.input[0].removesuffix("_QuantizeLinear_Input")
            if tensor in known and {node.input[1], node.input[2]} <= held:
                activations[node.output[0]] = _Activation(tensor, node.input[1], node.input[2])
    layers = []
    for node in quantized.node:
        found = _layer(node, producer, held, activations)
        if found is not None:
            layers.append(found)
    return list(activations.values()), layers


def _layer(node: NodeProto, producer: Mapping[str, NodeProto], held: set[str],
           activations: Mapping[str, _Activation]) -> _Layer | None:
    if node.op_type not in ("Conv", "Gemm"):
        return None
    sources = [producer.get(name) for name in node.input]
    if any(part is None or part.op_type != "DequantizeLinear" for part in sources):
        return None
    data, weight, *bias = (part for part in sources if part is not None)
    read = activations.get(data.input[0])
    constant = [part.input[0] in held for part in (weight, *bias)]
    if read is None or not all(constant):
        return None
    if any(_attribute(node, name, usual) != usual for name, usual in _USUAL.items()):
        return None
    geometry = Geometry() if node.op_type == "Gemm" else _geometry(node)
    rows_first = node.op_type == "Conv" or bool(_attribute(node, "transB", 0))
    return None if geometry is None else _Layer(
        read, geometry, weight.input[0], weight.input[1], rows_first,
        bias[0].input[0] if bias else None, bias[0].input[1] if bias else None)


def _geometry(node: NodeProto) -> Geometry | None:
    kernel: tuple[int, ...] = tuple(_attribute(node, "kernel_shape", ()))
    if not kernel:
        return None
    ones, zeros = (1,) * len(kernel), (0,) * 2 * len(kernel)
    pads = tuple(_attribute(node, "pads", zeros))
    begin, end = pads[: len(kernel)], pads[len(kernel) :]
    padding = tuple(size for pair in zip(reversed(begin), reversed(end), strict=True)
                    for size in pair)
    return Geometry(_attribute(node, "group", 1), False, kernel,
                    tuple(_attribute(node, "strides", ones)),
                    tuple(_attribute(node, "dilations", ones)), padding)


def _attribute(node: NodeProto, name: str, usual: Any) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    return usual if found is None else onnx.helper.get_attribute_value(found)


def _ranges(activations: Sequence[_Activation], covered: Mapping[str, Array], present: Numbers
            ) -> Numbers:
    """Scales and zero points of the ``covered`` ranges (low, high) of the tensors, and of zero."""
    bounds: dict[tuple[str, str], tuple[float, float]] = {}
    for part in activations:
        low, high = covered[part.tensor]
        key = part.scale, part.zero_point
        before = bounds.get(key, (0.0, 0.0))
        bounds[key] = min(before[0], float(low)), max(before[1], float(high))
    numbers = Numbers()
    for (scale, zero_point), (low, high) in bounds.items():
        kind = present[zero_point].dtype
        largest = max(-low, high)
        if not largest > 0 or kind not in (np.uint8, np.int8):
            continue
        step = np.float32(largest / LARGEST if kind == np.int8 else (high - low) / 255)
        step = np.maximum(step, np.finfo(np.float32).tiny)
        zero = 0 if kind == np.int8 else int(np.clip(np.rint(-low / step), 0, 255))
        numbers[scale] = np.asarray(step, np.float32)
        numbers[zero_point] = np.asarray(zero, kind)
    return numbers


def _biases(layers: Sequence[_Layer], weights: Numbers, present: Numbers,
            shifts: Mapping[str, Array]) -> Numbers:
    """int32 biases and their scales, for the scales of activations in ``present``; ``shifts`` are
    added, by weight."""
    numbers = Numbers()
    for layer in layers:
        name = None if layer.bias is None else layer.bias.removesuffix("_quantized")
        if layer.bias is None or layer.bias_scale is None or name not in weights:
            continue
        scale = (present[layer.weight_scale] * present[layer.input.scale]).astype(np.float32)
        scale = scale.reshape(present[layer.bias_scale].shape)
        bias = weights[name].astype(np.float64) + shifts.get(layer.weight, 0.0)
        limits = np.iinfo(np.int32)
        numbers[layer.bias] = np.clip(np.rint(bias / scale), limits.min, limits.max).astype(
            np.int32)
        numbers[layer.bias_scale] = scale
    return numbers


@dataclass(frozen=True)
class _Moved:
    """What one layer reads, of float inputs and quantized ones: means (groups, columns) and
    covariances (groups, columns, columns)."""

    plain: Tensor
    quantized: Tensor
    covariance: Tensor
    cross: Tensor


def _moments(session: _Float, layers: Sequence[_Layer], numbers: Numbers) -> dict[str, _Moved]:
    """Of every layer, by weight: quantized inputs are those that ``numbers`` make of float ones."""
    own = {layer.weight: Sums() for layer in layers}
    cross = {layer.weight: Sums() for layer in layers}
    most = max(1, MOST_POSITIONS // session.rounds)
    for batch in session.batches():
        for layer in layers:
            values = torch.from_numpy(batch[layer.input.tensor])
            plain = layer.geometry.columns(values, most)
            rounded = _fake_quantized(plain, numbers[layer.input.scale],
                                      numbers[layer.input.zero_point])
            own[layer.weight].add(rounded, rounded)
            cross[layer.weight].add(plain, rounded)
    return {name: _Moved(*cross[name].means(), own[name].covariance(), cross[name].covariance())
            for name in own}


def _fake_quantized(values: Tensor, scale: Array, zero_point: Array) -> Tensor:
    limits, zero = np.iinfo(zero_point.dtype), int(zero_point)
    codes = torch.clamp(torch.round(values / float(scale)) + zero, limits.min, limits.max)
    return (codes - zero) * float(scale)


def _solved(layers: Sequence[_Layer], weights: Numbers, present: Numbers,
            moved: Mapping[str, _Moved], free: set[str]) -> Numbers:
    """Weights of ``free`` by error feedback on their grid, zeros among them kept, and the biases
    of all layers."""
    numbers, shifts = Numbers(), dict[str, Array]()
    for layer in layers:
        seen = moved[layer.weight]
        weight = weights[layer.weight.removesuffix("_quantized")]
        like = torch.from_numpy(np.array(weight if layer.rows_first else weight.T, order="C"))
        step = torch.from_numpy(present[layer.weight_scale].copy()).expand(len(like))
        unit = layer.geometry.rows(
            step.view(-1, *[1] * (like.dim() - 1)).expand_as(like))[..., :1]
        rows = layer.geometry.rows(like)
        held = present[layer.weight] if layer.rows_first else present[layer.weight].T
        codes = layer.geometry.rows(torch.from_numpy(np.array(held, np.float32, order="C")))
        if layer.weight in free:
            second, cross = seen.covariance, seen.cross
            if layer.bias is None:  # nothing makes up for the means
                second = second + _outer(seen.quantized, seen.quantized)
                cross = cross + _outer(seen.plain, seen.quantized)
            codes = _on_grid(toward(rows, second, cross), second, unit, rows != 0)
            found = layer.geometry.weight(codes, like).to(torch.int8).numpy()
            numbers[layer.weight] = np.ascontiguousarray(found if layer.rows_first else found.T)
        shifts[layer.weight] = layer.geometry.per_output(
            rows * seen.plain.unsqueeze(1)
            - codes * unit * seen.quantized.unsqueeze(1)).double().numpy()
    return {**numbers, **_biases(layers, weights, present, shifts)}


def _outer(left: Tensor, right: Tensor) -> Tensor:
    return left.unsqueeze(2) * right.unsqueeze(1)


def _on_grid(rows: Tensor, second: Tensor, unit: Tensor, kept: Tensor) -> Tensor:
    """Integers (groups, rows, columns) of ``rows / unit``, zero where not ``kept``."""
    hessian = dampened(second)
    if not bool(kept.all()):
        rows = compensated(rows, hessian, kept)

    def rounding(weight: Tensor, at: Tensor) -> Tensor:
        present = kept.gather(2, at.unsqueeze(1).expand_as(weight))
        return torch.round(weight / unit).clamp(-LARGEST, LARGEST) * unit * present

    return torch.round(quantize(rows, hessian, rounding) / unit)
