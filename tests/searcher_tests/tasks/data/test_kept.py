"""What is kept in memory: bit for bit, and within its bound."""

import pytest
import torch
from torch import Tensor

from searcher.tasks.data.kept import (
    BATCHES_BYTES,
    SAMPLES_BYTES,
    TEACHER_BYTES,
    KeptBatches,
    KeptSamples,
)


def test_all_bounds_together() -> None:
    assert sum(SAMPLES_BYTES.values()) + BATCHES_BYTES + TEACHER_BYTES == 256 * 2**20


PICTURES = torch.arange(256, dtype=torch.uint8).float().div(255).reshape(4, 64)


@pytest.mark.parametrize(("tensor", "kept_bytes"), [
    (PICTURES, 256),
    (PICTURES.mul(255), 1024), (PICTURES - 0.5, 1024), (PICTURES.double(), 2048),
    (-PICTURES.mul(0), 1024),
    (torch.tensor([float("nan"), 1.0]), 8), (torch.tensor([1, 2]), 16),
    (torch.nextafter(PICTURES, torch.tensor(2.0)), 1024),
], ids=["pictures", "raw", "centred", "float64", "minus zero", "nan", "integers", "next"])
def test_batches_come_back_bit_for_bit(tensor: Tensor, kept_bytes: int) -> None:
    kept = KeptBatches(kept_bytes)
    kept.keep("a", ((tensor,), {"y": torch.tensor([], dtype=torch.int64)}))
    (found,), _ = kept.get("a")
    assert found.dtype == tensor.dtype and found.numpy().tobytes() == tensor.numpy().tobytes()
    found.zero_()
    assert kept.get("a")[0][0].numpy().tobytes() == tensor.numpy().tobytes(), "a copy"
    smaller = KeptBatches(kept_bytes - 1)
    smaller.keep("a", (tensor,))
    assert "a" not in smaller


def test_the_first_batches_stay() -> None:
    kept = KeptBatches(20)
    for key in range(4):
        kept.keep(key, (torch.tensor([key]),))
    assert [key for key in range(4) if key in kept] == [0, 1]


def test_samples_in_any_order() -> None:
    kept = KeptSamples(10, 5 * 12)
    kept.keep([7, 2, 9], ((torch.tensor([7.0, 2.0, 9.0]),), torch.tensor([70, 20, 90])))
    kept.keep([1, 3, 4], ((torch.tensor([1.0, 3.0, 4.0]),), torch.tensor([10, 30, 40])))
    assert kept.missing(range(10)) == [0, 4, 5, 6, 8], "five of twelve bytes each fit"
    (inputs,), targets = kept.rows([9, 1, 2])
    assert inputs.tolist() == [9, 1, 2] and targets.tolist() == [90, 10, 20]


def test_samples_of_another_shape_are_not_kept() -> None:
    kept = KeptSamples(4, 1000)
    kept.keep([0], (torch.zeros(1, 3),))
    kept.keep([1], (torch.zeros(1, 4),))
    assert kept.missing([0, 1]) == [1]
