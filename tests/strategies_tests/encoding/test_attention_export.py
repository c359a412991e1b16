"""Attention of torch's own modules, which inference fuses into operators that ONNX lacks."""

import onnxruntime
import pytest
import torch
from torch import nn

from strategies.base import StrategyError
from strategies.encoding.export import export_onnx
from strategies.target import Target

INPUT = torch.rand(3, 6, 32, generator=torch.Generator().manual_seed(0))
TARGETS = [Target(), Target(opset=14, ir_version=8), Target(opset=17, ir_version=8)]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


def encoder(layers):
    block = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=layers > 1)
    return nn.TransformerEncoder(block, layers, enable_nested_tensor=False)


class Causal(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)


@pytest.mark.parametrize("target", TARGETS, ids=["13", "14", "17"])
@pytest.mark.parametrize("make", [Attention, lambda: encoder(1), lambda: encoder(2)],
                         ids=["attention", "encoder", "norm_first"])
def test_the_file_computes_what_the_module_computes(make, target):
    torch.manual_seed(0)
    model = make().eval()
    graph = export_onnx(model, (INPUT[:1],), target)
    assert graph.opset_import[0].version == target.opset
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    (found,) = session.run(None, {graph.graph.input[0].name: INPUT.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model(INPUT), rtol=1e-4, atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled()


def test_causal_attention_needs_opset_14():
    assert export_onnx(Causal(), (INPUT[:1],), Target(opset=14, ir_version=8))
    with pytest.raises(StrategyError, match="scaled_dot_product_attention.* needs opset 14") as e:
        export_onnx(Causal(), (INPUT[:1],), Target())
    assert e.value.reason == "unsupported_graph"


def test_an_operator_that_the_opset_lacks_is_named():
    with pytest.raises(StrategyError, match="'aten::unflatten'.*opset version 11") as caught:
        export_onnx(Attention().eval(), (INPUT[:1],), Target(opset=11, ir_version=6))
    assert caught.value.reason == "unsupported_graph"
