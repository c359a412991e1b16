import numpy as np
import onnx
import pytest
import torch
from torch import nn

from strategies.base import StrategyError
from strategies.encoding import finish as finishing
from strategies.encoding import gates
from strategies.encoding.export import export_onnx
from strategies.encoding.finish import finish
from strategies.encoding.graph import constants
from strategies.encoding.int8 import Int8
from strategies.target import Target
from tests.strategies_tests.encoding.nets import (
    Residual,
    as_exporters_leave_it,
    lenet5,
    on_int8_grid,
    shared,
    thin,
    thin_out,
)

INPUT = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
CALIBRATION = torch.rand(32, 1, 28, 28, generator=torch.Generator().manual_seed(1))
PARAMETERS = 431_080


def finished(model, target=None):
    target = target or Target()
    return finish(export_onnx(model, (INPUT,), target), target)


def finished_int8(model, folder, scales=None):
    graph = export_onnx(model, (INPUT,), Target(), scales)
    return finish(Int8().encode(graph, (CALIBRATION,), Target(), folder), Target())


def test_a_dense_file_is_its_weights_and_little_else():
    assert len(finished(lenet5()).content) < 4 * PARAMETERS + 600


def test_sixteen_values_take_four_bits():
    biases, tables = 4 * 580, 4 * 64
    content = finished(shared(lenet5(), 16)).content
    assert len(content) < PARAMETERS / 2 + biases + tables + 900


def test_a_tenth_of_sixteen_values():
    assert len(finished(shared(thin_out(lenet5(), 0.1), 16)).content) < 56_000


def test_int8_files(tmp_path):
    assert len(finished_int8(lenet5(), tmp_path).content) < PARAMETERS + 4_500
    model = lenet5()
    scales = on_int8_grid(model, 16)
    encoded = finished_int8(model, tmp_path, scales)
    assert len(encoded.content) < PARAMETERS / 2 + 6_200
    assert gates.unquantized_convolutions(encoded.content) == []


@pytest.mark.parametrize("target", [
    Target(), Target(opset=11, ir_version=6), Target(opset=16, ir_version=8)],
    ids=["13", "11", "16"])
@pytest.mark.parametrize("make", [thin, Residual])
def test_the_finished_file_is_a_valid_model_that_computes_the_same(make, target):
    model = shared(make().eval(), 5)
    encoded = finished(model, target)
    graph = onnx.load_model_from_string(encoded.content)
    onnx.checker.check_model(graph)
    assert encoded.fold_checked
    assert not any(node.name for node in graph.graph.node)
    names = {"input", "output"} if isinstance(model, nn.Sequential) else {"x", "output"}
    assert {v.name for v in (*graph.graph.input, *graph.graph.output)} == names
    feeds = {graph.graph.input[0].name: CALIBRATION[:5].numpy()}
    (coded,) = gates.load(encoded.content).run(feeds)
    with torch.no_grad():
        assert np.allclose(coded, model(CALIBRATION[:5]).numpy(), atol=1e-5)


def test_the_same_model_gives_the_same_bytes():
    assert finished(shared(thin(), 5)).content == finished(shared(thin(), 5)).content


def test_the_graph_key_is_blind_to_weights_only(tmp_path):
    dense = finished(thin()).graph_key
    assert finished(shared(thin(), 4)).graph_key == dense
    assert finished(thin_out(thin(), 0.2)).graph_key == dense
    assert finished(lenet5()).graph_key != dense
    assert finished(thin(), Target(opset=11, ir_version=6)).graph_key != dense
    assert finished_int8(thin(), tmp_path).graph_key != dense


def test_the_metadata_of_clustering_does_not_reach_the_file():
    graph = export_onnx(thin(), (INPUT,), Target(), {"0.weight": torch.ones(4)})
    encoded = finish(graph, Target())
    assert len(graph.metadata_props) == 1
    assert b"fleetfront" not in encoded.content


def test_identities_and_stray_imports_do_not_reach_the_file():
    clean = export_onnx(thin(), (INPUT,), Target())
    graph = onnx.load_model_from_string(finish(as_exporters_leave_it(clean), Target()).content)
    assert [entry.domain for entry in graph.opset_import] == [""]
    assert "Identity" not in {node.op_type for node in graph.graph.node}


def test_a_decoder_that_stays_in_the_graph_is_refused(monkeypatch):
    def unfoldable(model, filter_scales):
        model.graph.node.insert(0, onnx.helper.make_node("Neg", ["input"], ["negated"]))
        model.graph.node.insert(1, onnx.helper.make_node("Neg", ["negated"], ["again"]))
        model.graph.node[2].input[0] = "again"
        return model

    monkeypatch.setattr(finishing, "encode_weights", unfoldable)
    with pytest.raises(StrategyError, match="Neg, Neg") as caught:
        finished(thin())
    assert caught.value.reason == "gate_folded"


def test_other_outputs_are_refused(monkeypatch):
    def broken(model, filter_scales):
        for tensor in model.graph.initializer:
            array = constants(model.graph)[tensor.name]
            tensor.CopyFrom(onnx.numpy_helper.from_array(array * 2, tensor.name))
        return model

    monkeypatch.setattr(finishing, "encode_weights", broken)
    with pytest.raises(StrategyError) as caught:
        finished(thin())
    assert caught.value.reason == "gate_parity"


def test_a_graph_beyond_the_target_is_refused():
    graph = export_onnx(thin(), (INPUT,), Target(opset=13))
    with pytest.raises(StrategyError, match="needs opset 13") as caught:
        finish(graph, Target(opset=11, ir_version=6))
    assert caught.value.reason == "gate_format"


def test_a_file_that_does_not_load_is_refused():
    graph = export_onnx(thin(), (INPUT,), Target())
    graph.graph.node[0].op_type = "Convolve"
    with pytest.raises(StrategyError, match="cannot load the uncoded file") as caught:
        finish(graph, Target())
    assert caught.value.reason == "gate_load"
