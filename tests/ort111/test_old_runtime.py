"""Files for opset 13 load in the real ONNX Runtime 1.11 and compute what today's computes."""

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks import ort111
from searcher.tasks.zoo.lenet5 import lenet5
from strategies.encoding.export import export_onnx
from strategies.encoding.finish import finish
from strategies.encoding.int8 import Int8
from strategies.layers import layers_of
from strategies.target import Target
from strategies.weights.clustering import Clustering
from strategies.weights.magnitude_pruning import MagnitudePruning
from strategies.weights.parametrizing import weight_scales

TARGET = Target(opset=13, ir_version=7)
RECIPES = {
    "dense": ((), False),
    "clustered": ((Clustering(4),), False),
    "sparse": ((MagnitudePruning(0.05),), False),
    "int8": ((), True),
    "int8_clustered": ((Clustering(3),), True),
    "int8_sparse_clustered": ((MagnitudePruning(0.1), Clustering(4)), True),
}

absent = ort111.why_not()
pytestmark = pytest.mark.skipif(absent is not None, reason=str(absent))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).random((4, 1, 28, 28), dtype=np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One exported file per recipe."""
    folder, scratch = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("scratch")
    calibration = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    made = {}
    for name, (weights, int8) in RECIPES.items():
        torch.manual_seed(0)
        model = lenet5().eval()
        for strategy in weights:
            names = [layer.name for layer in layers_of(model)]
            strategy.attach(model, names, "int8" if int8 else "float32")
        graph = export_onnx(model, (calibration[:1],), TARGET, weight_scales(model))
        if int8:
            graph = Int8().encode(graph, (calibration,), TARGET, scratch)
        made[name] = folder / f"{name}.onnx"
        made[name].write_bytes(finish(graph, TARGET).content)
    return made


@pytest.fixture(scope="module")
def both(files, pictures):
    """Outputs by recipe: (today's runtime, 1.11)."""
    old = ort111.outputs_of_ort111(list(files.values()), pictures)
    found = {}
    for (name, file), outputs in zip(files.items(), old, strict=True):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        found[name] = (session.run(None, {session.get_inputs()[0].name: pictures})[0], outputs)
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_the_old_runtime_computes_the_same(both, name):
    """Float to rounding; int8 to one step of the output's quantization."""
    now, old = both[name]
    assert old.shape == now.shape and np.isfinite(old).all()
    tolerance = 0.02 if name.startswith("int8") else 1e-4
    assert np.abs(old - now).max() <= tolerance * np.abs(now).max()
    assert np.abs(now).max() > 0


def test_small_files_are_small(files):
    """What is compared are codes, not dense weights."""
    dense = files["dense"].stat().st_size
    assert all(file.stat().st_size < dense / 3 for name, file in files.items() if name != "dense")


def test_a_refused_file_is_named(tmp_path, pictures):
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"no model")
    with pytest.raises(ort111.Ort111Error, match="broken.onnx"):
        ort111.outputs_of_ort111([file], pictures)
