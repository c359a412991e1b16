"""Samples are the same whichever process reads them, and errors of worker processes are named."""

import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from searcher.errors import TaskError
from searcher.tasks.data.habits import Habits, habits_of
from searcher.tasks.data.layout import Layout
from searcher.tasks.data.samples import Samples
from searcher.tasks.data.seeding import (
    generator_states,
    kept_generators,
    seed_generators,
    seed_of,
)
from searcher.tasks.data.source import source_of

LAYOUT = Layout(("x",))


class Counted:
    """Ten samples; counts the reads of this process. ``draw`` adds to the inputs."""

    def __init__(self, draw: Callable[[int], float] = float, length: int = 10) -> None:
        self.draw, self.length, self.reads = draw, length, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return np.float32([index, self.draw(index)]), index % 3


def of_torch(index: int) -> float:
    return float(torch.rand(()))


def of_numpy(index: int) -> float:
    return float(np.random.random())


def of_random(index: int) -> float:
    return random.random()


def of_entropy(index: int) -> float:
    return float(np.random.default_rng().random())


def samples(data: Any, split: str = "training", workers: int = 0) -> Samples:
    return Samples(source_of(split, data), LAYOUT, torch.float32, workers)


def epoch(found: Samples, seed: int = 0, number: int = 0, size: int = 4) -> torch.Tensor:
    plan = [range(i, min(i + size, len(found))) for i in range(0, len(found), size)]
    return torch.cat([inputs[0] for inputs, _ in found.stream(plan, seed, number)])


@pytest.mark.parametrize("draw", [of_torch, of_numpy, of_random])
def test_random_numbers_follow_from_seed_epoch_and_sample(draw: Callable[[int], float]) -> None:
    found = samples(Counted(draw))
    first = epoch(found)
    assert len(first[:, 1].unique()) == 10, "each sample draws its own"
    assert torch.equal(first, epoch(found, size=3)), "not from its batch"
    assert not torch.equal(first, epoch(found, number=1))
    assert not torch.equal(first, epoch(found, seed=1))


@pytest.mark.parametrize("draw", [of_torch, of_numpy, of_random])
def test_reading_leaves_the_generators_as_they_were(draw: Callable[[int], float]) -> None:
    before = generator_states()
    list(samples(Counted(draw)).batches(4))
    assert generator_states() == before


def test_processes_read_the_same_samples() -> None:
    before = generator_states()
    here, there = samples(Counted(of_numpy)), samples(Counted(of_numpy), workers=2)
    for number in (0, 1):
        assert torch.equal(epoch(here, number=number), epoch(there, number=number))
    next(there.stream([[1], [2]]))
    assert torch.equal(epoch(here, 5), epoch(there, 5)), "also after a stream that was not read"
    assert generator_states() == before


def fails_at_seven(index: int) -> float:
    if index == 7:
        raise OSError(2, "No such file", "seven.jpg")
    return 0.0


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("it has two arguments")


def fails_unpicklably(index: int) -> float:
    if index == 7:
        raise Unpicklable(1, 2)
    return 0.0


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("draw", "said"), [
    (fails_at_seven, "training[7]: FileNotFoundError: [Errno 2] No such file: 'seven.jpg'."),
    (fails_unpicklably, "training[7]: Unpicklable: it has two arguments."),
])
def test_the_sample_that_raises_is_named(draw: Callable[[int], float], said: str,
                                         workers: int) -> None:
    found = samples(Counted(draw, 30), workers=workers)
    with pytest.raises(TaskError) as caught:
        epoch(found)
    assert str(caught.value).startswith(said) and caught.value.__cause__ is not None


def dies(index: int) -> float:
    if index == 4:
        os._exit(1)
    return 0.0


def test_a_process_that_dies_is_named() -> None:
    found = samples(Counted(dies, 40), workers=1)
    with pytest.raises(TaskError, match="training: a process that reads samples ended"):
        epoch(found)


# -- what is kept ------------------------------------------------------------------------------


def test_samples_that_do_not_change_are_read_once() -> None:
    data = Counted()
    found = samples(data)
    epoch(found)
    reads = data.reads
    assert torch.equal(epoch(found, 3, 4), epoch(samples(Counted()), size=1))
    assert data.reads == reads


def test_training_samples_that_change_are_read_again() -> None:
    data = Counted(of_random)
    found = samples(data)
    epoch(found)
    reads = data.reads
    epoch(found)
    assert data.reads == reads + 10


@pytest.mark.parametrize("draw", [of_random, of_entropy])
def test_evaluation_splits_stay_what_they_were(draw: Callable[[int], float]) -> None:
    found = samples(Counted(draw), "validation")
    first = torch.cat([batch.inputs[0] for batch in found.batches(4)])
    again = torch.cat([batch.inputs[0] for batch in found.batches(3)])
    assert torch.equal(first, again)


def stacked(items: list[Any]) -> Any:
    return np.stack([x for x, _ in items]), np.array([y for _, y in items])


def test_collated_evaluation_batches_are_read_once() -> None:
    data = Counted(of_random)
    found = samples(DataLoader(data, collate_fn=stacked), "validation")
    first = [batch.inputs[0] for batch in found.batches(4)]
    reads = data.reads
    again = [batch.inputs[0] for batch in found.batches(4)]
    assert data.reads == reads and all(map(torch.equal, first, again))


def test_what_does_not_fit_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    row_bytes = 8 + 8
    monkeypatch.setattr("searcher.tasks.data.samples.SAMPLES_BYTES", {"training": 6 * row_bytes})
    data = Counted()
    found = samples(data)
    first = epoch(found, size=5)
    reads = data.reads
    assert torch.equal(epoch(found, size=5), first) and data.reads == reads + 4
    plan = [[9, 0, 7, 1], [5, 2]]
    mixed = [inputs[0][:, 0].tolist() for inputs, _ in found.stream(plan)]
    assert mixed == [[9, 0, 7, 1], [5, 2]]
    assert [t.tolist() for _, t in found.stream(plan)] == [[0, 0, 1, 1], [2, 2]]


# -- habits ------------------------------------------------------------------------------------


def habits(data: Any) -> Habits:
    return habits_of(source_of("training", data), LAYOUT)


def test_habits() -> None:
    still, drawn, odd = habits(Counted()), habits(Counted(of_torch)), habits(Counted(of_entropy))
    assert (still.augments, still.repeats) == (False, True)
    assert (drawn.augments, drawn.repeats) == (True, True)
    assert (odd.augments, odd.repeats) == (True, False)
    assert odd.digest == habits(Counted(of_entropy)).digest, "of shapes and types"
    assert len({still.digest, drawn.digest, odd.digest, habits(Counted(length=11)).digest}) == 4


def rarely(index: int) -> float:
    return float(random.random() < 1e-9)


def test_rare_augmentation_is_seen() -> None:
    assert habits(Counted(rarely)).augments


def test_the_digest_follows_the_arrays() -> None:
    x, y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20)
    first = habits((x, y))
    assert first == habits((torch.from_numpy(x.copy()), torch.from_numpy(y)))
    assert not first.augments and first.repeats
    assert len({first.digest, habits((x + 1, y)).digest, habits((x, y + 1)).digest,
                habits((x.astype(np.float64), y)).digest}) == 4


# -- seeds -------------------------------------------------------------------------------------


def test_seeds_are_spread_and_the_same_everywhere() -> None:
    assert seed_of(0, 0, 0) == seed_of(0, 0, 0) != seed_of(0, 0, 1)
    seeds = {seed_of(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000 and all(0 <= seed < 2**32 for seed in seeds)
    assert seed_of(1, 2, 3) == 1793398209


def test_generators_are_kept_when_the_block_raises() -> None:
    before = generator_states()
    with pytest.raises(ZeroDivisionError), kept_generators():
        seed_generators(3)
        raise ZeroDivisionError
    assert generator_states() == before
