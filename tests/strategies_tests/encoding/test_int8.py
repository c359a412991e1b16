import logging

import numpy as np
import onnx
import pytest
import torch

from strategies.base import EncodingStrategy, StrategyError
from strategies.encoding import gates
from strategies.encoding import int8 as int8_module
from strategies.encoding.export import export_onnx
from strategies.encoding.graph import constants
from strategies.encoding.int8 import Int8, channel_scales
from strategies.target import Target
from tests.strategies_tests.encoding.nets import (
    Residual,
    as_exporters_leave_it,
    lenet5,
    on_int8_grid,
    thin,
    thin_out,
    weighted,
)

INPUT = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
CALIBRATION = torch.rand(70, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def encode(model, tmp_path, target=None, scales=None):
    target = target or Target()
    graph = export_onnx(model, (INPUT,), target, scales)
    return Int8().encode(graph, (CALIBRATION,), target, tmp_path)


def test_it_is_an_encoding_strategy():
    assert isinstance(Int8.suggest({}, [], {}), EncodingStrategy)
    assert Int8.groups == ("model",)


@pytest.mark.parametrize("make", [lenet5, thin, Residual])
def test_every_convolution_runs_in_int8(make, tmp_path, caplog):
    model = make().eval()
    with caplog.at_level(logging.WARNING):
        graph = encode(model, tmp_path)
    assert not caplog.records
    assert list(tmp_path.iterdir()) == []
    content = graph.SerializeToString()
    assert gates.unquantized_convolutions(content) == []
    inputs = CALIBRATION[:8]
    (coded,) = gates.load(content).run({graph.graph.input[0].name: inputs.numpy()})
    with torch.no_grad():
        plain = model(inputs).numpy()
    assert np.abs(coded - plain).max() < 0.05 * np.abs(plain).max() + 0.02


def test_identities_and_stray_imports_do_not_keep_it_in_float(tmp_path):
    clean = export_onnx(lenet5(), (INPUT,), Target())
    raw = as_exporters_leave_it(clean)
    made = [Int8().encode(graph, (CALIBRATION,), Target(), tmp_path).SerializeToString()
            for graph in (raw, clean)]
    found = [gates.load(content).operators for content in made]
    assert found[0] == found[1] and found[0]["QLinearConv"] == 2


def test_a_float_convolution_is_seen():
    content = export_onnx(thin(), (INPUT,), Target()).SerializeToString()
    assert len(gates.unquantized_convolutions(content)) == 2


def test_few_quantization_pairs_are_left(tmp_path):
    graph = encode(lenet5(), tmp_path)
    operators = gates.load(graph.SerializeToString()).operators
    assert operators["QLinearConv"] == 2
    assert operators["QGemm"] == 2
    assert operators["DequantizeLinear"] == 0
    assert sum(node.op_type == "QuantizeLinear" for node in graph.graph.node) == 4


@pytest.mark.parametrize("count", [8, 16])
def test_a_clustered_table_survives(count, tmp_path):
    model = lenet5()
    scales = on_int8_grid(model, count)
    graph = encode(model, tmp_path, scales=scales)
    weights = [a for a in constants(graph.graph).values() if a.dtype == np.int8 and a.ndim > 1]
    assert len(weights) == 4
    assert all(np.unique(weight).size <= count for weight in weights)
    assert not graph.metadata_props


def test_wrong_number_of_scales_is_refused(tmp_path):
    with pytest.raises(StrategyError, match="4 output channels but 3"):
        encode(thin(), tmp_path, scales={"0.weight": torch.ones(3)})


def test_old_targets_are_refused(tmp_path):
    with pytest.raises(StrategyError, match="opset 13") as caught:
        encode(thin(), tmp_path, Target(opset=11, ir_version=6))
    assert caught.value.reason == "unsupported_target"


def test_a_device_without_int8_gets_none(tmp_path):
    with pytest.raises(StrategyError, match="does not compute in int8") as caught:
        encode(thin(), tmp_path, Target(number_formats=frozenset({"float32", "float16"})))
    assert caught.value.reason == "unsupported_target"


SIGNED = Target(opset=16, ir_version=8, int8_activations="int8")


@pytest.mark.parametrize("make", [lenet5, thin, Residual])
def test_signed_activations(make, tmp_path):
    graph = encode(make().eval(), tmp_path, SIGNED)
    values = constants(graph.graph)
    assert np.uint8 not in {array.dtype.type for array in values.values()}
    zero_points = [values[node.input[2]] for node in graph.graph.node
                   if node.op_type.endswith("quantizeLinear") or node.op_type == "QuantizeLinear"]
    assert zero_points and not any(array.any() for array in zero_points), "symmetric"
    assert gates.convolutions_without_pairs(graph.graph) == []


@pytest.mark.parametrize("target", [Target(), SIGNED], ids=["u8s8", "s8s8"])
def test_a_convolution_outside_pairs_is_seen(target, tmp_path):
    graph = encode(thin(), tmp_path, target)
    assert gates.convolutions_without_pairs(graph.graph) == []
    first = next(node for node in graph.graph.node if node.op_type == "Conv")
    for lost in (0, 1):
        broken = onnx.ModelProto()
        broken.CopyFrom(graph)
        next(n for n in broken.graph.node if n.op_type == "Conv").input[lost] = "input"
        assert gates.convolutions_without_pairs(broken.graph) == [first.name or first.output[0]]
    plain = export_onnx(thin(), (INPUT,), Target())
    assert len(gates.convolutions_without_pairs(plain.graph)) == 2


def test_a_signed_graph_that_no_runtime_can_fuse_is_refused(tmp_path, monkeypatch):
    plain = export_onnx(thin(), (INPUT,), SIGNED)
    monkeypatch.setattr(int8_module, "_quantize", lambda *arguments: plain)
    with pytest.raises(StrategyError, match="2 convolutions are not enclosed") as caught:
        encode(thin(), tmp_path, SIGNED)
    assert caught.value.reason == "gate_unquantized"


def test_the_graph_fits_the_target(tmp_path):
    graph = encode(thin(), tmp_path)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 13)]
    assert graph.ir_version <= 7
    onnx.checker.check_model(graph)


def test_channel_scales_cover_the_channel_and_are_short():
    weight = np.random.default_rng(0).standard_normal((6, 5, 3, 3)).astype(np.float32)
    weight[2] = 0
    weight[3] *= 1e-12
    scales = channel_scales(weight, 0)
    largest = np.abs(weight).max(axis=(1, 2, 3))
    assert (np.round(largest / scales) <= 127).all()
    assert (np.round(largest / scales)[[0, 1, 3, 4, 5]] >= 126).all()
    short = np.delete(scales, 3)
    assert np.array_equal(short.astype(np.float16).astype(np.float32), short)


class Heavy(torch.nn.Module):
    """Depthwise-separable, with channels of unlike sizes, as folding a BatchNorm leaves them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        layers = []
        for inputs, outputs in ((1, 16), (16, 24), (24, 32)):
            depthwise = torch.nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
            pointwise = torch.nn.Conv2d(inputs, outputs, 1)
            with torch.no_grad():
                pointwise.weight *= 2 * torch.logspace(-1, 0.5, outputs).view(-1, 1, 1, 1)
            layers += [depthwise, torch.nn.ReLU(), pointwise, torch.nn.ReLU()]
        self.body, self.last = torch.nn.Sequential(*layers), torch.nn.Linear(32, 10)
        self.eval()

    def forward(self, x):
        return self.last(self.body(x).mean((2, 3)))


def spikes(seed, count):
    """Pictures of which a few values are far from all others."""
    source = torch.Generator().manual_seed(seed)
    pictures = torch.rand(count, 1, 28, 28, generator=source)
    return torch.where(torch.rand(pictures.shape, generator=source) < 3e-5, 40.0, pictures)


def output_error(graph, model, inputs):
    (found,) = gates.load(graph.SerializeToString()).run({graph.graph.input[0].name:
                                                          inputs.numpy()})
    with torch.no_grad():
        wanted = model(inputs)
    return float((torch.from_numpy(found) - wanted).square().sum()
                 / (wanted - wanted.mean(0)).square().sum())


@pytest.mark.parametrize("target", [Target(), SIGNED], ids=["u8s8", "s8s8"])
def test_it_is_clearly_better_than_the_extremes_and_rounding(target, tmp_path):
    model, inputs = Heavy(), spikes(0, 96)
    graph = export_onnx(model, (inputs[:1],), target)
    feeds = {graph.graph.input[0].name: inputs.numpy()}
    first = int8_module._quantize(graph, feeds, target, tmp_path)
    found = Int8().encode(graph, (inputs,), target, tmp_path)
    errors = [output_error(made, model, inputs) for made in (found, first)]
    assert errors[0] < 0.5 * errors[1]
    unseen = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    errors = [output_error(made, model, unseen) for made in (found, first)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("make", [lenet5, thin, Residual, Heavy])
def test_it_is_never_worse_on_the_calibration_samples(make, tmp_path):
    model = make().eval()
    graph = export_onnx(model, (INPUT,), Target())
    feeds = {graph.graph.input[0].name: CALIBRATION.numpy()}
    first = int8_module._quantize(graph, feeds, Target(), tmp_path)
    found = Int8().encode(graph, (CALIBRATION,), Target(), tmp_path)
    assert output_error(found, model, CALIBRATION) <= 1.001 * output_error(first, model,
                                                                           CALIBRATION)


def test_the_same_samples_give_the_same_graph(tmp_path):
    made = [encode(lenet5(), tmp_path).SerializeToString(deterministic=True) for _ in range(2)]
    assert made[0] == made[1]


@pytest.mark.parametrize("count", [1, 8])
def test_few_samples_are_enough(count, tmp_path):
    graph = export_onnx(thin(), (INPUT,), Target())
    found = Int8().encode(graph, (CALIBRATION[:count],), Target(), tmp_path)
    assert gates.unquantized_convolutions(found.SerializeToString()) == []


def test_zeros_of_a_sparse_weight_stay(tmp_path):
    model = thin_out(lenet5(), 0.2)
    held = {name: module.weight == 0 for name, module in weighted(model).items()}
    values = constants(encode(model, tmp_path).graph)
    for name, zeros in held.items():
        assert not values[f"{name}.weight_quantized"][zeros.numpy()].any()


def test_weights_on_a_given_grid_stay(tmp_path):
    model = lenet5()
    scales = on_int8_grid(model, 8)
    values = constants(encode(model, tmp_path, scales=scales).graph)
    for name, module in weighted(model).items():
        column = scales[f"{name}.weight"].view(-1, *[1] * (module.weight.dim() - 1))
        wanted = (module.weight.data / column).round().numpy()
        assert np.array_equal(values[f"{name}.weight_quantized"], wanted)
