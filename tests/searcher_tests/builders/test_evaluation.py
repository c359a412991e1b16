import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from searcher.artifacts.formats.onnx import session
from searcher.builders.evaluation import evaluate, probe_input, probe_outputs
from searcher.errors import BuildError, UserError


def first_pixels() -> bytes:
    """A model whose logits are the first three of its four inputs."""
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
              helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])]
    eye = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], np.eye(4, 3).ravel())
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", values[:1],
                              values[1:], [eye])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_accuracy_of_the_file_sample_by_sample(tmp_path) -> None:
    inputs = np.random.default_rng(0).random((250, 4), dtype=np.float32)
    targets = inputs[:, :3].argmax(1)
    targets[[3, 120, 249]] += 1
    found = evaluate(first_pixels(), inputs, targets)
    assert (found.n, found.value, found.metric) == (250, 247 / 250, "accuracy")
    assert np.flatnonzero(~found.scores).tolist() == [3, 120, 249]
    low, high = found.interval
    assert low < found.value < high
    (tmp_path / "model.onnx").write_bytes(first_pixels())
    assert evaluate(tmp_path / "model.onnx", inputs, targets).value == found.value


def test_the_probe_input_is_the_same_everywhere() -> None:
    import random

    draw = random.Random(0)
    expected = np.array([draw.random() for _ in range(6)], np.float32).reshape(1, 2, 3)
    assert np.array_equal(probe_input(["batch", 2, 3]), expected)
    assert probe_input([None, 0, "h"], batch=2).shape == (2, 2, 2)
    assert not np.array_equal(probe_input([1, 4], seed=1), probe_input([1, 4]))


def test_probe_outputs_are_what_the_host_computes() -> None:
    outputs = probe_outputs(first_pixels())
    assert outputs == pytest.approx(probe_input([1, 4])[0, :3].tolist())
    assert probe_outputs(first_pixels(), most=2) == outputs[:2]


@pytest.mark.parametrize("content", [b"garbage", b"", first_pixels()[:60]],
                         ids=["garbage", "empty", "truncated"])
def test_a_file_that_cannot_be_loaded(content: bytes, tmp_path) -> None:
    with pytest.raises(BuildError, match="cannot load") as caught:
        session(content)
    assert caught.value.reason == "unloadable"
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(BuildError, match="cannot load"):
        session(tmp_path / "bad.onnx")


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(BuildError, match="cannot load"):
        session(tmp_path / "absent.onnx")


@pytest.mark.parametrize(("names", "said"), [
    ({"metric": "acuracy"}, "Unknown metric 'acuracy'. Did you mean 'accuracy'?"),
    ({"file_format": "onx"}, "Unknown file format 'onx'. Did you mean 'onnx'?"),
])
def test_unknown_names(names: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        evaluate(first_pixels(), np.zeros((2, 4), np.float32), np.zeros(2, np.int64), **names)
    assert said in str(caught.value)
