"""Fidelities of training: each continues from the previous one."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from torch import nn

from searcher.builders.builder import Builder
from searcher.builders.schedule import Schedule
from searcher.errors import BuildError
from searcher.spec.fidelity import TRAINED
from searcher.tasks.base import Task
from tests.searcher_tests.builders.test_builder import MASK, PRUNE, TARGET, TUNE, counts, recipe


def give_epochs(builder: Builder, extended: int, **fields: float) -> None:
    """The task of ``builder`` with epochs of extended training, and other ``fields``; the baseline
    is that of the task before."""
    builder.prefixes.baseline()
    task = dataclasses.replace(
        builder.task, epochs={**builder.task.epochs, "extended": extended}, **fields)
    builder.task = builder.prefixes.task = task


def test_full_continues_short(builder: Builder, epochs: list[int]) -> None:
    steps = recipe(PRUNE, TUNE)
    builder.train(steps, "short", TARGET)
    assert epochs == [0]
    full = builder.train(steps, "full", TARGET)
    assert epochs == [0, 1, 2] and counts(full) == (1, 1), "each step counts once"


def test_extended_continues_full(builder: Builder, epochs: list[int]) -> None:
    give_epochs(builder, extended=4)
    steps = recipe(PRUNE, TUNE)
    extended = builder.train(steps, "extended", TARGET)
    assert epochs == [0, 1, 2, 3] and counts(extended) == (2, 0), "each step counts once"
    assert counts(builder.train(steps, "full", TARGET)) == (0, 2), "it came by on the way"
    assert epochs == [0, 1, 2, 3]


def test_a_task_that_gives_no_epochs_for_it_is_told(builder: Builder) -> None:
    with pytest.raises(BuildError, match="tiny gives no epochs for fidelity 'extended', only for "
                                         "short, full") as refused:
        builder.train(recipe(PRUNE, TUNE), "extended", TARGET)
    assert refused.value.reason == "unknown_fidelity"


@pytest.mark.parametrize(("share", "trained"), [(1.0, 3), (0.25, 3), (0.125, 5), (0.01, 7)])
def test_few_operations_are_trained_longer(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, share: float, trained: int
) -> None:
    """Short is one epoch of the three, and the other two stretch to six at most; so do those of
    extended training."""
    give_epochs(builder, longest_full=3.0, extended=5)
    prefixes, small = builder.prefixes, nn.Identity()
    baseline = prefixes.baseline()
    monkeypatch.setattr(prefixes, "operations",
                        lambda model: round(share * 1000) if model is small else 1000)

    def epochs_of(model: nn.Module) -> list[int]:
        return [prefixes._epochs(model, Schedule.of(fidelity)) for fidelity in TRAINED]

    assert epochs_of(small) == [1, trained, 1 + 2 * (trained - 1)]
    assert epochs_of(baseline) == [1, 3, 5]


def test_full_is_the_same_whether_or_not_short_was_asked_for(
    tiny: Task, builds: Path, trained_folder: Path, tmp_path: Path
) -> None:
    steps = recipe(MASK, TUNE)
    there = Builder(tiny, 0, builds)
    there.train(steps, "short", TARGET)
    other = shutil.copytree(trained_folder, tmp_path / "other")
    assert Builder(tiny, 0, other).train(steps, "full", TARGET).content == there.train(
        steps, "full", TARGET).content
