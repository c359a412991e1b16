"""A file has the inputs and outputs of the user's model: names, order, types, a free batch."""

from collections import namedtuple

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from strategies.base import StrategyError
from strategies.encoding import gates
from strategies.encoding.export import Names, export_onnx
from strategies.encoding.finish import finish
from strategies.encoding.graph import constants
from strategies.encoding.int8 import Int8
from strategies.target import Target
from strategies.weights.clustering import Clustering
from strategies.weights.parametrizing import weight_scales

Answer = namedtuple("Answer", "logits depth")


class TwoTowers(nn.Module):
    """A uint8 picture, int64 tokens and an input that nothing reads; ``kind`` is what it
    returns."""

    def __init__(self, kind="dict"):
        super().__init__()
        torch.manual_seed(3)
        self.kind = kind
        self.picture = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32, 16))
        self.words = nn.Embedding(11, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, image, unread, tokens):
        mixed = torch.relu(self.picture(image.float() / 255) + self.words(tokens).mean(1))
        logits = self.head(mixed)
        return {"dict": {"logits": logits, "class": logits.argmax(1)},
                "tuple": (logits, mixed), "named": Answer(logits, mixed.mean(1)),
                "twice": (logits, logits), "one": logits, "input": (logits, tokens),
                "clash": {"tokens": logits}, "number": (logits, logits.mean())}[self.kind]


def samples(n, seed=0):
    source = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 256, (n, 3, 8, 8), generator=source, dtype=torch.uint8),
            torch.rand(n, 2, generator=source),
            torch.randint(0, 11, (n, 5), generator=source))


def face(graph):
    return [[(v.name, v.type.tensor_type.elem_type,
              [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
             for v in values] for values in (graph.graph.input, graph.graph.output)]


INPUTS = [("image", TensorProto.UINT8, ["batch", 3, 8, 8]),
          ("unread", TensorProto.FLOAT, ["batch", 2]),
          ("tokens", TensorProto.INT64, ["batch", 5])]


def answers(content, n=5):
    feeds = {name: tensor.numpy() for (name, _, _), tensor in zip(
        INPUTS, samples(n, seed=8), strict=True)}
    return gates.load(content).run(feeds)


def expected(model, n=5):
    with torch.no_grad():
        found = model.eval()(*samples(n, seed=8))
    if isinstance(found, torch.Tensor):
        return [found.numpy()]
    return [one.numpy() for one in (found.values() if isinstance(found, dict) else found)]


@pytest.mark.parametrize(("kind", "outputs"), [
    ("dict", ["logits", "class"]), ("tuple", ["output_0", "output_1"]),
    ("named", ["logits", "depth"]), ("twice", ["output_0", "output_1"]), ("one", ["output"]),
    ("input", ["output_0", "output_1"]), ("number", ["output_0", "output_1"]),
])
def test_the_file_has_the_inputs_and_outputs_of_the_model(kind, outputs):
    model = TwoTowers(kind)
    graph = export_onnx(model, samples(1), Target())
    assert face(graph)[0] == INPUTS
    content = finish(graph, Target()).content
    finished = onnx.load_model_from_string(content)
    assert face(finished)[0] == INPUTS and [v.name for v in finished.graph.output] == outputs
    for found, wanted in zip(answers(content), expected(model), strict=True):
        assert found.dtype == wanted.dtype and np.allclose(found, wanted, atol=1e-5)


def test_weights_keep_the_names_that_they_have_with_one_output():
    one, several = (export_onnx(TwoTowers(kind), samples(1), Target()) for kind in ("one", "tuple"))
    assert set(constants(one.graph)) == set(constants(several.graph)) >= {"head.weight"}


def test_names_of_the_task_are_those_of_the_file():
    names = Names(("picture", "age", "words"), ("classes", "features"))
    graph = export_onnx(TwoTowers("tuple"), samples(1), Target(), names=names)
    content = finish(graph, Target()).content
    finished = onnx.load_model_from_string(content)
    assert [v.name for v in finished.graph.input] == ["picture", "age", "words"]
    assert [v.name for v in finished.graph.output] == ["classes", "features"]


@pytest.mark.parametrize("kind", ["dict", "tuple", "named"])
def test_int8_keeps_names_types_and_every_output_in_float(kind, tmp_path):
    model = TwoTowers(kind)
    graph = export_onnx(model, samples(1), Target())
    quantized = Int8().encode(graph, samples(70), Target(), tmp_path)
    content = finish(quantized, Target()).content
    finished = onnx.load_model_from_string(content)
    assert face(finished) == face(graph)
    assert gates.unquantized_convolutions(content) == []
    for found, wanted in zip(answers(content), expected(model), strict=True):
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        if found.dtype == np.float32:
            assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


def test_clustering_keeps_names_and_types(tmp_path):
    model = TwoTowers("tuple")
    Clustering(3).attach(model, ["picture.0", "picture.2", "picture.6", "head"], "int8")
    graph = export_onnx(model, samples(1), Target(), weight_scales(model))
    for coded in (graph, Int8().encode(graph, samples(70), Target(), tmp_path)):
        content = finish(coded, Target()).content
        assert face(onnx.load_model_from_string(content)) == face(graph)
        assert [one.shape for one in answers(content)] == [(5, 4), (5, 16)]


def test_calibration_needs_a_tensor_for_every_input(tmp_path):
    graph = export_onnx(TwoTowers(), samples(1), Target())
    with pytest.raises(StrategyError, match=r"3 inputs \(image, unread, tokens\), the calibration "
                                            "samples have 1"):
        Int8().encode(graph, samples(4)[:1], Target(), tmp_path)


@pytest.mark.parametrize(("kind", "names", "words"), [
    ("clash", Names(), "An input and an output of the model are both named 'tokens'"),
    ("one", Names(inputs=("a", "b")), r"A sample has 3 inputs, 2 names are given \(a, b\)"),
    ("one", Names(outputs=("a", "b")), r"returns 1 tensors \(output\), 2 names are given"),
])
def test_names_that_do_not_fit_are_refused_in_words(kind, names, words):
    with pytest.raises(StrategyError, match=words):
        export_onnx(TwoTowers(kind), samples(1), Target(), names=names)


def test_an_input_without_a_batch_axis_is_refused():
    image, _, tokens = samples(1)
    with pytest.raises(StrategyError, match="'unread' is a single number"):
        export_onnx(TwoTowers(), (image, torch.tensor(1.0), tokens), Target())


def test_a_model_that_does_not_run_on_its_sample_is_refused_in_words():
    with pytest.raises(StrategyError, match="TwoTowers does not run on one sample"):
        export_onnx(TwoTowers(), samples(1)[:2], Target())


class OneAtATime(nn.Module):
    def forward(self, x):
        return x.reshape(1, 6).cumsum(1)


def test_a_batch_that_the_model_fixes_is_named():
    graph = export_onnx(OneAtATime(), (torch.rand(1, 2, 3),), Target())
    with pytest.raises(StrategyError, match="does not run on 2 samples.*fix the number") as caught:
        finish(graph, Target())
    assert caught.value.reason == "unsupported_graph"
