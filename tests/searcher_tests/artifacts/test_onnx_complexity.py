import subprocess
import sys

import onnx
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from searcher.artifacts.onnx_complexity import complexity
from searcher.errors import UserError
from strategies.encoding.export import export_onnx
from strategies.encoding.finish import finish
from strategies.encoding.int8 import Int8
from strategies.target import Target
from tests.strategies_tests.encoding.nets import Residual, lenet5, shared, thin_out

INPUT = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def reloaded(graph):
    return onnx.load_model_from_string(finish(graph, Target()).content)


def macs_of(model, inputs=INPUT):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    return counter.get_total_flops() // 2


@pytest.fixture(scope="module")
def graph():
    return export_onnx(shared(thin_out(lenet5(), 0.1), 16), (INPUT,), Target())


def test_lenet5(graph):
    counted = complexity(graph)
    assert counted.macs == macs_of(lenet5()) == 2_293_000
    assert counted.parameters == 431_080
    assert [layer.name for layer in counted.layers] == ["0", "3", "7", "9"]
    assert [layer.op for layer in counted.layers] == ["Conv", "Conv", "Gemm", "Gemm"]
    assert [layer.macs for layer in counted.layers] == [288_000, 1_600_000, 400_000, 5_000]
    assert counted.layers[1].weight_bytes == 4 * 25_050
    assert counted.layers[1].activation_bytes == 4 * 50 * 8 * 8
    assert all(layer.distinct_values <= 16 for layer in counted.layers)
    assert counted.nonzero_share == pytest.approx(0.1, abs=0.01)


def test_coded_weights_are_seen(graph, tmp_path):
    plain, coded = complexity(graph), complexity(reloaded(graph))
    assert (coded.macs, coded.parameters) == (plain.macs, plain.parameters)
    for one, other in zip(plain.layers, coded.layers, strict=True):
        assert one.distinct_values == other.distinct_values
        assert one.nonzero_share == other.nonzero_share
    path = tmp_path / "model.onnx"
    path.write_bytes(finish(graph, Target()).content)
    assert complexity(path) == coded


def test_int8(graph, tmp_path):
    quantized = Int8().encode(graph, (INPUT,), Target(), tmp_path)
    for model in (quantized, reloaded(quantized)):
        counted = complexity(model)
        assert (counted.macs, counted.parameters) == (2_293_000, 431_080)
        assert counted.layers[1].weight_bytes == 25_000 + 4 * 50
        assert counted.layers[1].activation_bytes == 50 * 8 * 8
        assert counted.nonzero_share == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("model", [
    Residual(),
    nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, groups=1), nn.Conv2d(8, 16, 3, groups=4, dilation=2),
                  nn.ConvTranspose2d(16, 6, 3, stride=2), nn.Conv2d(6, 6, 3, groups=6)),
    nn.Sequential(nn.Flatten(1, 2), nn.Linear(28, 12, bias=False), nn.Linear(12, 3)),
], ids=["residual", "grouped_and_transposed", "matmul"])
def test_it_agrees_with_torch(model):
    model.eval()
    counted = complexity(export_onnx(model, (INPUT,), Target()))
    assert counted.macs == macs_of(model)


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "notes.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"notes\.onnx cannot be read"):
        complexity(path)


def test_it_needs_no_torch():
    code = "import sys, searcher.artifacts.onnx_complexity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
