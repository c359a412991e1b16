from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from searcher.artifacts import arrays
from searcher.artifacts.formats.onnx import session
from searcher.builders.evaluation import (
    BATCH,
    BATCH_BYTES,
    Evaluation,
    Face,
    batch_of,
    evaluate,
    score_outputs,
)
from searcher.builders.reference import reference_outputs
from searcher.errors import BuildError, UserError
from searcher.tasks.data.splits import SampleBatch
from tests.contract.test_runtimes import two_of_each


class ArraySplit:
    """A split in memory that counts how many samples were read at a time."""

    def __init__(self, inputs: list[np.ndarray], targets: Any) -> None:
        self.inputs = [torch.from_numpy(one) for one in inputs]
        self.targets = torch.from_numpy(targets)
        self.sizes: list[int] = []

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int) -> Iterator[SampleBatch]:
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            self.sizes.append(len(self.targets[part]))
            yield SampleBatch(tuple(one[part] for one in self.inputs), self.targets[part], start)


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


def pixels(n: int = 250, wrong: tuple[int, ...] = ()) -> ArraySplit:
    """Samples that ``first_pixels`` answers rightly, those of ``wrong`` apart."""
    inputs = np.random.default_rng(0).random((n, 4), dtype=np.float32)
    targets = inputs[:, :3].argmax(1)
    targets[list(wrong)] = (targets[list(wrong)] + 1) % 3
    return ArraySplit([inputs], targets)


def test_accuracy_of_the_file_sample_by_sample(tmp_path: Path) -> None:
    split = pixels(wrong=(3, 120, 249))
    found = evaluate(first_pixels(), split)
    assert (found.n, found.value, found.metric) == (250, 247 / 250, "accuracy")
    assert found.scores is not None and found.interval is not None
    assert np.flatnonzero(~found.scores).tolist() == [3, 120, 249]
    assert found.interval[0] < found.value < found.interval[1]
    assert split.sizes == [100, 100, 50], "read batch by batch"
    (tmp_path / "model.onnx").write_bytes(first_pixels())
    assert evaluate(tmp_path / "model.onnx", split).value == found.value


def test_large_samples_come_a_few_at_a_time() -> None:
    assert batch_of(4) == BATCH and batch_of(0) == BATCH
    assert batch_of(BATCH_BYTES // 7) == 7 and batch_of(3 * BATCH_BYTES) == 1
    split = pixels(10)
    assert evaluate(first_pixels(), split, face=Face(batch=4)).value == 1.0
    assert split.sizes == [4, 4, 2]


def tokens(n: int = 9) -> ArraySplit:
    """Inputs of ``two_of_each`` whose largest token is the target."""
    rng = np.random.default_rng(1)
    numbers = rng.permuted(np.tile(np.array([-2, 0, 5]), (n, 1)), axis=1)
    return ArraySplit([rng.random((n, 2, 2), dtype=np.float32), numbers], numbers.argmax(1))


NAMES = ("image", "tokens")


@pytest.mark.parametrize("judged", ["sums", "copy", None])
def test_inputs_are_fed_by_name_and_outputs_judged_by_name(judged: str | None) -> None:
    split = tokens()
    found = evaluate(two_of_each("FLOAT", "INT64"), split, face=Face(NAMES, judged))
    assert found.value == 1.0
    split.inputs.reverse()
    again = evaluate(two_of_each("FLOAT", "INT64"), split, face=Face(NAMES[::-1], judged))
    assert again.value == 1.0


@pytest.mark.parametrize(("face", "inputs", "words"), [
    (Face(NAMES, "logits"), 2, "no output 'logits', which the metric judges; it has sums, "),
    (Face(NAMES, "shape"), 2, r"has the shape \(2,\) for 9 samples"),
    (Face(NAMES[:1], "sums"), 1, r"has 2 inputs \(image, tokens\), a sample has 1"),
    (Face(NAMES[::-1], "sums"), 2, "'image' of the file is float32, the samples have int64"),
])
def test_what_does_not_fit_is_said_in_words(face: Face, inputs: int, words: str) -> None:
    split = tokens()
    split.inputs = split.inputs[:inputs]
    with pytest.raises(BuildError, match=words) as caught:
        evaluate(two_of_each("FLOAT", "INT64"), split, face=face)
    assert caught.value.reason == "outputs"


def test_what_the_runtime_refuses_is_said_in_words() -> None:
    split = pixels()
    split.inputs[0] = split.inputs[0][:, :2]
    with pytest.raises(BuildError, match="ONNX Runtime cannot run the file: .*x") as caught:
        evaluate(first_pixels(), split)
    assert caught.value.reason == "outputs"


def test_a_metric_that_does_not_fit_names_the_samples() -> None:
    split = pixels(120, wrong=())
    split.targets[110] = 7
    with pytest.raises(BuildError, match="accuracy does not fit.*sample 110") as caught:
        evaluate(first_pixels(), split)
    assert caught.value.reason == "outputs"


def test_nan_is_a_failure_that_names_the_sample() -> None:
    split = pixels(120)
    split.inputs[0][113, 2] = np.nan
    with pytest.raises(BuildError, match="NaN for sample 113") as caught:
        evaluate(first_pixels(), split)
    assert caught.value.reason == "outputs"


# -- outputs of a device ---------------------------------------------------------------------


def stored(path: Path, outputs: dict[str, np.ndarray]) -> Path:
    path.write_bytes(arrays.packed(outputs))
    return path


def test_outputs_of_a_device_are_judged_as_those_of_the_host(tmp_path: Path) -> None:
    split = pixels(wrong=(3, 120, 249))
    outputs = split.inputs[0][:, :3].numpy()
    here = evaluate(first_pixels(), split)
    one = score_outputs(stored(tmp_path / "one", {"y": outputs}), split, face=Face(("x",), "y"))
    several = score_outputs(stored(tmp_path / "two", {"z": np.zeros(250), "y": outputs}), split,
                            face=Face(("x",), "y"))
    for found in (one, several):
        assert same(found, here)


def same(one: Evaluation, other: Evaluation) -> bool:
    return (one.metric, one.value, one.n, one.interval) == (
        other.metric, other.value, other.n, other.interval) and np.array_equal(
        np.asarray(one.scores), np.asarray(other.scores))


@pytest.mark.parametrize(("outputs", "words"), [
    ({"y": np.zeros((249, 3))}, "249 rows for a split of 250 samples"),
    ({"y": np.zeros((250, 3)), "z": np.zeros(250)}, "no output 'logits'"),
])
def test_outputs_that_do_not_fit(tmp_path: Path, outputs: dict[str, np.ndarray],
                                 words: str) -> None:
    with pytest.raises(BuildError, match=words) as caught:
        score_outputs(stored(tmp_path / "file", outputs), pixels(), face=Face(judged="logits"))
    assert caught.value.reason == "outputs"


def test_a_file_that_holds_no_outputs(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"nothing")
    with pytest.raises(BuildError, match="cannot be read"):
        score_outputs(tmp_path / "file", pixels())


# -- the uncompressed model as the reference ---------------------------------------------------


@pytest.fixture(params=["kept", "computed"])
def folder(request: pytest.FixtureRequest, tmp_path: Path,
           monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "computed":
        monkeypatch.setattr("searcher.builders.reference.LARGEST_BYTES", 100)
    return tmp_path / "builds" / "key"


def test_a_metric_may_compare_with_the_uncompressed_model(folder: Path) -> None:
    """Here with itself, and with a model whose first two outputs are swapped."""
    split = pixels(230)
    opened = []

    def reference(content: bytes) -> Any:
        def given() -> bytes:
            opened.append(content)
            return content
        return reference_outputs(given, split, "validation", Face(), folder)

    itself = evaluate(first_pixels(), split, "agreement", wanted=reference(first_pixels()))
    assert itself.value == 1.0
    swapped = onnx.load_model_from_string(first_pixels())
    swapped.graph.initializer[0].CopyFrom(helper.make_tensor(
        "w", TensorProto.FLOAT, [4, 3], np.eye(4, 3)[:, [1, 0, 2]].ravel()))
    found = evaluate(swapped.SerializeToString(), split, "agreement",
                     wanted=reference(first_pixels()))
    third = (split.inputs[0][:, :3].argmax(1) == 2).float().mean()
    assert found.value == pytest.approx(float(third))
    assert len(opened) == (2 if not folder.exists() else 1), "a file is computed once"


def test_what_is_kept_of_another_split_is_not_used(tmp_path: Path) -> None:
    for n in (230, 120):
        split = pixels(n)
        wanted = reference_outputs(first_pixels, split, "validation", Face(), tmp_path)
        assert evaluate(first_pixels(), split, "agreement", wanted=wanted).n == n


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
        evaluate(first_pixels(), ArraySplit([np.zeros((2, 4), np.float32)], np.zeros(2, np.int64)),
                 **names)
    assert said in str(caught.value)
