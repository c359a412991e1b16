"""What the independent script repeats must be what the task does, and stay independent."""

import ast
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import recompute_accuracy
from benchmarks.commands import with_seed
from benchmarks.old_runtime import difference
from searcher.tasks.stratified_split import stratified


def test_it_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(recompute_accuracy.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
             for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {n.split(".")[0] for n in names} & {"searcher", "strategies", "benchmarks", "agents"}


def test_the_test_digits_are_the_tasks() -> None:
    labels = np.random.default_rng(5).permutation(np.repeat(np.arange(10), 500))
    sizes = {"training": 2500, "validation": 1000, "test": 1500}
    assert np.array_equal(recompute_accuracy.positions_of_test(labels),
                          stratified(labels, sizes, seed=0)["test"])


def test_right_answers_are_counted(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["input"], ["flat"]),
         helper.make_node("Mul", ["flat", "one"], ["output"])], "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 1, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")])
    model = helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", 13)])
    onnx.save(model, tmp_path / "m.onnx")
    inputs = np.eye(3, dtype=np.float32).repeat(50, 0).reshape(-1, 1, 1, 3)
    labels = np.repeat([0, 1, 1], 50)
    assert onnxruntime.__version__
    assert recompute_accuracy.right_answers(tmp_path / "m.onnx", inputs, labels) == 100


def test_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / recompute_accuracy.MNIST_5K).write_bytes(b"other")
    with pytest.raises(SystemExit, match="another digest"):
        recompute_accuracy.split_of_test("lenet5-mnist", tmp_path)


def test_the_seed_is_replaced_wherever_it_stands() -> None:
    assert with_seed('name = "x"\nseed = 0\n', 2) == 'name = "x"\nseed = 2\n'
    assert with_seed('name = "x"\n', 2).startswith("seed = 2\n")


def test_outputs_of_two_runtimes() -> None:
    new = np.array([[1.0, 2.0], [3.0, 1.0]], np.float32)
    assert difference(new, new.ravel().tolist()) is None
    assert "answers differ" in (difference(new, new[:, ::-1]) or "")
    assert "values" in (difference(new, [1.0]) or "")
    assert "differ by" in (difference(new, new * 1.5) or "")
