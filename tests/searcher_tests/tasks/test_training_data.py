import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

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


def test_calibration_is_spread_over_the_training_split(tiny: Task) -> None:
    split = TrainingSplit(tiny, 0)
    assert split.calibration(7)[0].shape == (7, 1, 12, 12)
    assert len(split.calibration()[0]) == 180
    ends = split.calibration(2)[0].numpy()
    inputs = tiny.load()["training"].inputs
    assert np.array_equal(ends[0], inputs[0]) and np.array_equal(ends[1], inputs[-1])


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
