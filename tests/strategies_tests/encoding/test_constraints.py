"""What masks and tables promise is in the exported graph, or the build is a defect."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fleetfront_testing.networks import Residual
from strategies.base import StrategyError
from strategies.encoding.constraints import BrokenPromiseError, check_constraints
from strategies.encoding.export import export_onnx
from strategies.encoding.graph import constants
from strategies.encoding.int8 import Int8
from strategies.layers import layers_of
from strategies.repair.batchnorm import fold_batchnorm
from strategies.repair.weights import repair_weights
from strategies.target import Target
from strategies.weights.clustering import Clustering
from strategies.weights.magnitude_pruning import MagnitudePruning
from strategies.weights.parametrizing import weight_scales

INPUTS = torch.rand(64, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def built(*steps, number_format="float32", fold=True, repair=True):
    model = fold_batchnorm(Residual(), (INPUTS[:1],)) if fold else Residual()
    for step in steps:
        step.attach(model, [layer.name for layer in layers_of(model)], number_format)
    if repair:
        repair_weights(model, (INPUTS,))
    return model


def exported(model):
    return export_onnx(model, (INPUTS[:1],), Target(), weight_scales(model))


@pytest.mark.parametrize("number_format", ["float32", "int8"])
@pytest.mark.parametrize("steps", [
    [Clustering(1)], [Clustering(4)], [Clustering(8)], [MagnitudePruning(0.2)],
    [MagnitudePruning(0.2), Clustering(3)]], ids=str)
def test_promises_are_kept(steps, number_format, tmp_path):
    model = built(*steps, number_format=number_format)
    graph = exported(model)
    check_constraints(graph, model)
    if number_format == "int8":
        check_constraints(Int8().encode(graph, (INPUTS,), Target(), tmp_path), model)


def changed(graph, name, change):
    broken = onnx.ModelProto()
    broken.CopyFrom(graph)
    tensor = next(t for t in broken.graph.initializer if t.name == name)
    array = constants(graph.graph)[name].copy()
    change(array)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    return broken


def test_a_value_beside_the_table_is_a_defect():
    model = built(Clustering(2))
    graph = exported(model)
    broken = changed(graph, "hidden.weight", lambda array: np.put(array, 5, 0.123))
    with pytest.raises(BrokenPromiseError, match=r"'hidden.weight'.*5 distinct values.* 4"):
        check_constraints(broken, model)


def test_a_value_under_the_mask_is_a_defect():
    model = built(MagnitudePruning(0.2))
    graph = exported(model)

    def fill(array):
        array[array == 0] = 1e-9

    with pytest.raises(BrokenPromiseError, match="where its mask has zeros"):
        check_constraints(changed(graph, "last.weight", fill), model)


def test_a_normalization_folded_by_the_exporter_is_a_defect():
    model = built(Clustering(4), fold=False, repair=False)
    with pytest.raises(BrokenPromiseError, match="'first.0.weight' is not in the exported graph"):
        check_constraints(exported(model), model)
    assert not issubclass(BrokenPromiseError, StrategyError)


def test_a_linear_layer_that_is_stored_transposed():
    model = nn.Sequential(nn.Linear(144, 20, bias=False), nn.ReLU(), nn.Linear(20, 10, bias=False))
    Clustering(3).attach(model, ["0", "2"], "float32")
    inputs = INPUTS.view(64, 1, 144)
    repair_weights(model, (inputs,))
    graph = export_onnx(model, (inputs[:1],), Target())
    assert "0.weight" not in constants(graph.graph)
    check_constraints(graph, model)


class Factored(nn.Module):
    """A fully connected layer in two factors, the first without bias: a MatMul in ONNX."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(40, 12, bias=False), nn.Linear(12, 30)
        self.last = nn.Linear(30, 5)

    def forward(self, x):
        return self.last(torch.relu(self.second(self.first(x))))


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("bits", [2, 5])
def test_a_layer_without_bias_keeps_its_table_in_int8(bits, repair, tmp_path):
    inputs, model = torch.randn(64, 40, generator=torch.Generator().manual_seed(0)), Factored()
    Clustering(bits).attach(model, [layer.name for layer in layers_of(model)], "int8")
    if repair:
        repair_weights(model, (inputs,))
    graph = export_onnx(model, (inputs[:1],), Target(), weight_scales(model))
    encoded = Int8().encode(graph, (inputs,), Target(), tmp_path)
    check_constraints(encoded, model, graph)
