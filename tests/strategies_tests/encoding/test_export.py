import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import nn
from torch.nn.utils import parametrize

from strategies.base import StrategyError
from strategies.encoding.export import export_onnx, read_weight_scales
from strategies.encoding.graph import constants, tidy
from strategies.target import Target
from tests.strategies_tests.encoding.nets import Residual, lenet5, thin

INPUT = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def outputs(graph, inputs):
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["output"], {graph.graph.input[0].name: inputs.numpy()})[0])


@pytest.mark.parametrize("make", [lenet5, thin, Residual])
@pytest.mark.parametrize("target", [
    Target(), Target(opset=11, ir_version=6), Target(opset=16, ir_version=8)],
    ids=["13", "11", "16"])
def test_any_batch_gives_what_the_module_gives(make, target):
    model = make().eval()
    graph = export_onnx(model, (INPUT,), target)
    assert graph.opset_import[0].version == target.opset
    assert graph.ir_version <= target.ir_version
    for batch in (1, 3):
        inputs = torch.rand(batch, 1, 28, 28)
        with torch.no_grad():
            assert torch.allclose(outputs(graph, inputs), model(inputs), atol=1e-5)


def test_nothing_of_the_exporter_is_left():
    graph = export_onnx(thin(), (INPUT,), Target())
    assert not graph.producer_name
    assert not graph.metadata_props
    assert not graph.graph.value_info
    assert {node.op_type for node in graph.graph.node} == {
        "Conv", "Relu", "MaxPool", "Flatten", "Gemm"}
    assert [value.name for value in graph.graph.input] == ["input"]


class Halved(nn.Module):
    def forward(self, weight):
        return weight * 0.5


def test_parametrizations_are_baked_in_and_the_model_keeps_them():
    model = thin()
    parametrize.register_parametrization(model[0], "weight", Halved())
    model.train()
    graph = export_onnx(model, (INPUT,), Target())
    assert parametrize.is_parametrized(model[0])
    assert model.training
    weight = constants(graph.graph)["0.weight"]
    assert torch.equal(torch.from_numpy(weight.copy()), model[0].weight.detach())


def test_a_users_weight_normalization_is_baked_in():
    model = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(784, 4)))
    graph = export_onnx(model, (INPUT,), Target())
    with torch.no_grad():
        assert torch.allclose(outputs(graph, INPUT), model(INPUT), atol=1e-5)


def test_zeros_of_a_mask_lose_their_sign():
    model = thin()
    model[0].weight.data = -model[0].weight.data.abs() * 0.0
    weight = constants(export_onnx(model, (INPUT,), Target()).graph)["0.weight"]
    assert weight.tobytes() == bytes(weight.nbytes)


class Unexportable(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x[:, 0]).real


def test_what_cannot_be_exported_says_so():
    with pytest.raises(StrategyError, match="Unexportable cannot be exported") as caught:
        export_onnx(Unexportable(), (INPUT,), Target())
    assert caught.value.reason == "unsupported_graph"


def test_weight_scales_travel_with_the_graph():
    scales = {"0.weight": torch.arange(1, 5) / 64}
    graph = export_onnx(thin(), (INPUT,), Target(), scales)
    assert read_weight_scales(graph) == {"0.weight": [1 / 64, 2 / 64, 3 / 64, 4 / 64]}


def test_weight_scales_of_a_folded_weight_are_refused():
    with pytest.raises(StrategyError, match=r"second\.0\.weight"):
        export_onnx(Residual(), (INPUT,), Target(), {"second.0.weight": torch.ones(8)})


def test_tidy_copies_identities_and_drops_what_nobody_reads():
    graph = helper.make_graph(
        [helper.make_node("Identity", ["b"], ["c"]),
         helper.make_node("Constant", [], ["d"], value_float=1.0),
         helper.make_node("Add", ["input", "c"], ["sum"]),
         helper.make_node("Add", ["sum", "b"], ["output"])],
        "g",
        [helper.make_tensor_value_info("input", 1, [2])],
        [helper.make_tensor_value_info("output", 1, [2])],
        [helper.make_tensor("b", 1, [2], [1, 2]), helper.make_tensor("dead", 1, [2], [1, 2])],
    )
    model = helper.make_model(graph, producer_name="x", opset_imports=[
        helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 5)])
    tidy(model)
    assert [entry.domain for entry in model.opset_import] == [""]
    assert {tensor.name for tensor in model.graph.initializer} == {"b", "c"}
    assert "Identity" not in {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model)
