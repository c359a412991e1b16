import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from searcher.errors import TaskError
from searcher.tasks.base import Split, Task
from searcher.tasks.teacher import CachedTeacher
from searcher.tasks.training_data import TrainingSplit


def test_an_epoch_depends_on_task_seed_and_number_only(tiny: Task) -> None:
    first, again = TrainingSplit(tiny, 0), TrainingSplit(tiny, 0)
    list(again.batches(1))
    for one, other in zip(first.batches(0), again.batches(0), strict=True):
        assert one.key == other.key and torch.equal(one.inputs[0], other.inputs[0])
        assert torch.equal(one.targets, other.targets)
    other = next(TrainingSplit(tiny, 1).batches(0))
    same_key = {b.key: b for b in first.batches(0)}[other.key]
    assert not torch.equal(other.inputs[0], same_key.inputs[0])


def test_a_key_always_means_the_same_tensors(tiny: Task) -> None:
    split = TrainingSplit(tiny, 0)
    again = tiny.augmented_epochs
    before = {b.key: b.inputs[0] for b in split.batches(0)}
    after = {b.key: b.inputs[0] for b in split.batches(again)}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    order = [[b.key for b in split.batches(epoch)] for epoch in (0, again)]
    assert order[0] != order[1], "in another order"


def test_an_epoch_covers_what_it_says(tiny: Task) -> None:
    split = TrainingSplit(tiny, 0)
    batches = list(split.batches(0))
    assert len(batches) == split.batches_per_epoch == 9
    assert sum(len(b.targets) for b in batches) == 180
    assert all(b.inputs[0].shape[1:] == (1, 12, 12) and b.inputs[0].dtype == torch.float32
               for b in batches)
    assert all(0 <= float(b.inputs[0].min()) and float(b.inputs[0].max()) <= 1 for b in batches)


def test_short_epochs_walk_through_the_split(tiny: Task) -> None:
    marked = np.arange(180, dtype=np.float32).reshape(-1, 1, 1, 1) / 255
    splits: dict[str, Any] = {**tiny.load(), "training": Split(
        np.tile(marked, (1, 1, 2, 2)), tiny.load()["training"].targets)}
    task = dataclasses.replace(tiny, load=lambda: splits, augment=None, epoch_samples=60,
                               augmented_epochs=6)

    def samples(*epochs: int) -> list[int]:
        split = TrainingSplit(task, 0)
        return [round(float(v) * 255) for e in epochs for b in split.batches(e)
                for v in b.inputs[0][:, 0, 0, 0]]

    assert sorted(samples(0, 1, 2)) == list(range(180)), "one pass sees each sample once"
    assert sorted(samples(3, 4, 5)) == list(range(180)) and samples(3) != samples(0)


def test_without_augmentation_pictures_come_unchanged(tiny: Task) -> None:
    split = TrainingSplit(dataclasses.replace(tiny, augment=None), 0)
    known = {t.tobytes() for t in tiny.load()["training"].inputs}
    batch = next(split.batches(0))
    assert all(picture.numpy().tobytes() in known for picture in batch.inputs[0])


def standardized(tiny: Task, **more: Any) -> tuple[Task, dict[str, Split]]:
    splits = {name: Split((split.inputs - 0.3) / 0.2, split.targets)
              for name, split in tiny.load().items()}
    return dataclasses.replace(tiny, load=lambda: splits, augment=None, **more), splits


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.uint8, np.bool_])
def test_inputs_of_any_range_and_type_reach_the_model_as_they_are(tiny: Task, dtype: Any) -> None:
    task, splits = standardized(tiny)
    changed = {name: Split((split.inputs * 9).astype(dtype), split.targets)
               for name, split in splits.items()}
    split = TrainingSplit(dataclasses.replace(task, load=lambda: changed), 0)
    known = {t.tobytes() for t in changed["training"].inputs}
    for _ in range(2):
        for batch in split.batches(0):
            (inputs,) = batch.inputs
            assert inputs.numpy().dtype == dtype
            assert all(row.tobytes() in known for row in inputs.numpy())


def test_float64_becomes_the_models_precision(tiny: Task) -> None:
    splits = {name: Split(split.inputs.astype(np.float64), split.targets)
              for name, split in tiny.load().items()}
    task = dataclasses.replace(tiny, load=lambda: splits, augment=None)
    single, double = task, dataclasses.replace(task, model=lambda: tiny.module().double())
    assert next(TrainingSplit(single, 0).batches(0)).inputs[0].dtype == torch.float32
    assert next(TrainingSplit(double, 0).batches(0)).inputs[0].dtype == torch.float64


@pytest.mark.parametrize(("targets", "dtype"), [
    (np.arange(180, dtype=np.int32), torch.int64), (np.arange(180) % 2 == 0, torch.bool),
    (np.arange(180, dtype=np.uint8), torch.int64), (np.linspace(0, 1, 180), torch.float32)])
def test_types_of_targets(tiny: Task, targets: np.ndarray, dtype: torch.dtype) -> None:
    splits = {**tiny.load(), "training": Split(tiny.load()["training"].inputs, targets)}
    task = dataclasses.replace(tiny, load=lambda: splits)
    assert next(TrainingSplit(task, 0).batches(0)).targets.dtype == dtype


@pytest.mark.parametrize(("batch_size", "sizes"), [
    (179, [180]), (20, [20] * 9), (89, [2, 89, 89]), (1, [1] * 180), (500, [180])])
def test_a_last_batch_of_one_sample_joins_the_one_before(tiny: Task, batch_size: int,
                                                         sizes: list[int]) -> None:
    split = TrainingSplit(dataclasses.replace(tiny, batch_size=batch_size), 0)
    assert sorted(len(batch.targets) for batch in split.batches(0)) == sizes
    assert split.batches_per_epoch == len(sizes)


class Rows:
    """The training split of the tiny task as a dataset; it may brighten its samples."""

    def __init__(self, split: Split, draw: Any = None) -> None:
        self.split, self.draw, self.reads = split, draw, 0

    def __len__(self) -> int:
        return len(self.split.targets)

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        factor = 1.0 if self.draw is None else np.float32(self.draw())
        return self.split.inputs[index] * factor, int(self.split.targets[index])


def epoch(split: TrainingSplit, number: int) -> dict[tuple[int, int], bytes]:
    return {b.key: b.inputs[0].numpy().tobytes() for b in split.batches(number)}


def test_a_dataset_gives_the_batches_of_its_arrays(tiny: Task) -> None:
    task = dataclasses.replace(tiny, augment=None)
    rows = Rows(tiny.load()["training"])
    lazy = dataclasses.replace(task, load=lambda: {**tiny.load(), "training": rows})
    arrays, dataset = TrainingSplit(task, 0), TrainingSplit(lazy, 0)
    assert epoch(arrays, 0) == epoch(dataset, 0) and epoch(arrays, 1) == epoch(dataset, 1)
    reads = rows.reads
    epoch(dataset, 2)
    assert rows.reads == reads, "it does not change, so that memory has it"


def test_augmentation_by_the_dataset_comes_again_after_augmented_epochs(tiny: Task) -> None:
    rows = Rows(tiny.load()["training"], np.random.random)
    task = dataclasses.replace(tiny, load=lambda: {**tiny.load(), "training": rows}, augment=None)
    first, other = TrainingSplit(task, 0), TrainingSplit(task, 0)
    once = epoch(first, 0)
    assert epoch(other, 1) != once and epoch(other, 0) == once
    reads = rows.reads
    assert epoch(first, tiny.augmented_epochs) == once and rows.reads == reads, "kept"
    assert epoch(TrainingSplit(task, 1), 0) != once


def test_batches_that_do_not_fit_are_made_again(tiny: Task,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows(tiny.load()["training"], np.random.random)
    task = dataclasses.replace(tiny, load=lambda: {**tiny.load(), "training": rows}, augment=None)
    once = epoch(TrainingSplit(task, 0), 0)
    monkeypatch.setattr("searcher.tasks.training_data.BATCHES_BYTES", 40 * 144 * 4)
    split = TrainingSplit(task, 0)
    assert epoch(split, 0) == once == epoch(split, tiny.augmented_epochs)


def test_samples_that_do_not_repeat_have_new_keys(tiny: Task) -> None:
    rows = Rows(tiny.load()["training"], np.random.default_rng().random)
    task = dataclasses.replace(tiny, load=lambda: {**tiny.load(), "training": rows}, augment=None)
    split = TrainingSplit(task, 0)
    keys = [key for number in (0, 0, 1) for key in epoch(split, number)]
    assert len(set(keys)) == len(keys) == 27 and all(key[0] < 0 for key in keys)
    teacher = CachedTeacher(Constant(), split)
    list(map(teacher, split.batches(0)))
    assert teacher._outputs == {}


def test_a_large_epoch_is_augmented_batch_by_batch(tiny: Task,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(images: Tensor, seed: int) -> Tensor:
        asked.append((len(images), seed))
        return images

    task = dataclasses.replace(tiny, augment=noted)
    epoch(TrainingSplit(task, 0), 0)
    monkeypatch.setattr("searcher.tasks.training_data.EPOCH_BYTES", 1000)
    epoch(TrainingSplit(task, 0), 0)
    assert [n for n, _ in asked] == [180, *[20] * 9] and len({s for _, s in asked}) == 10


def careless(images: Tensor, seed: int) -> Tensor:
    return images * torch.rand(len(images), 1, 1, 1)


def test_an_augmentation_that_ignores_its_seed_is_fixed_nevertheless(tiny: Task) -> None:
    task = dataclasses.replace(tiny, augment=careless)
    before = torch.get_rng_state()
    assert epoch(TrainingSplit(task, 0), 0) == epoch(TrainingSplit(task, 0), 0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("augment", "said"), [
    (lambda images, seed: 1 / 0, "augment: ZeroDivisionError: division by zero. It got float32"),
    (lambda images: images, "augment: TypeError"),
    (lambda images, seed: images[:7], "augment: gave float32 tensor of shape (7, 1, 12, 12), "
                                      "expected as many inputs and samples as it got"),
    (lambda images, seed: None, "augment: gave None"),
])
def test_an_augmentation_that_is_wrong(tiny: Task, augment: Any, said: str) -> None:
    with pytest.raises(TaskError) as caught:
        epoch(TrainingSplit(dataclasses.replace(tiny, augment=augment), 0), 0)
    assert said in str(caught.value)


@pytest.mark.parametrize(("loss", "said"), [
    (lambda outputs, targets: outputs["logits"], "loss: IndexError"),
    (nn.CrossEntropyLoss(reduction="none"), "loss: gave float32 tensor of shape (20,), expected "
                                            "a tensor with one value"),
    (lambda outputs, targets: 1.0, "loss: gave float 1.0"),
])
def test_a_loss_that_is_wrong_says_what_it_got(tiny: Task, loss: Any, said: str) -> None:
    split = TrainingSplit(dataclasses.replace(tiny, loss=loss), 0)
    with pytest.raises(TaskError) as caught:
        split.loss(torch.zeros(20, 4), torch.zeros(20, dtype=torch.int64))
    assert said in str(caught.value)
    assert "outputs: float32 tensor of shape (20, 4); targets: int64 tensor" in str(caught.value)


@pytest.mark.parametrize("targets", [torch.zeros(20, 1, dtype=torch.int64),
                                     torch.zeros(20, 4, dtype=torch.int64),
                                     torch.full((20,), 9)])
def test_labels_that_cross_entropy_does_not_take(tiny: Task, targets: Tensor) -> None:
    with pytest.raises(TaskError, match=r"^loss: .* targets: int64 tensor of shape \(20"):
        TrainingSplit(tiny, 0).loss(torch.zeros(20, 4), targets)


def test_a_metric_that_does_not_fit_the_outputs(tiny: Task) -> None:
    task = dataclasses.replace(tiny, metric="binary_accuracy")
    with pytest.raises(TaskError, match="metric: 'binary_accuracy' on the validation split"):
        TrainingSplit(task, 0).validation_metric(Constant())


def test_a_metric_against_the_reference_is_replaced_by_the_loss(tiny: Task) -> None:
    split = TrainingSplit(dataclasses.replace(tiny, metric="agreement"), 0)
    model = Constant()
    part = tiny.samples("validation")
    (batch,) = part.batches(60)
    expected = float(nn.functional.cross_entropy(model(*batch.inputs), batch.targets))
    assert split.validation_metric(model) == pytest.approx(-expected)


def test_calibration_is_spread_over_the_training_split(tiny: Task) -> None:
    split = TrainingSplit(tiny, 0)
    assert split.calibration(7)[0].shape == (7, 1, 12, 12)
    assert len(split.calibration()[0]) == 180
    ends = split.calibration(2)[0].numpy()
    inputs = tiny.load()["training"].inputs
    assert np.array_equal(ends[0], inputs[0]) and np.array_equal(ends[1], inputs[-1])


def test_calibration_has_a_bound(tiny: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searcher.tasks.training_data.CALIBRATION_BYTES", 5 * 144 * 4 + 1)
    assert len(TrainingSplit(tiny, 0).calibration()[0]) == 5


class Constant(nn.Module):
    """Always answers class 2; counts its calls."""

    calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        type(self).calls += 1
        return nn.functional.one_hot(torch.full((len(inputs),), 2), 4).float()


def test_the_metric_is_of_the_validation_split(tiny: Task) -> None:
    model = Constant()
    share = float((tiny.load()["validation"].targets == 2).mean())
    assert TrainingSplit(tiny, 0).validation_metric(model) == share and model.training


def test_a_teacher_is_asked_once_per_batch(tiny: Task) -> None:
    Constant.calls = 0
    split = TrainingSplit(tiny, 0)
    teacher = CachedTeacher(Constant(), split)
    batches = list(TrainingSplit(tiny, 0).batches(0))
    first = [teacher(batch) for batch in batches]
    assert all(a is b for a, b in zip(first, map(teacher, batches), strict=True))
    assert Constant.calls == len(batches) and not first[0].requires_grad


@pytest.mark.parametrize("name", ["training", "validation", "test"])
def test_the_tiny_task_is_learnable_and_balanced(tiny: Task, name: str) -> None:
    split = tiny.load()[name]
    assert split.inputs.dtype == np.float32 and split.targets.dtype == np.int64
    assert set(np.bincount(split.targets)) == {len(split.targets) // 4}
