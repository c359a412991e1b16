"""The digest of a task without an identity: all that changes its builds, in every process."""

import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fleetfront
from searcher.errors import TaskError
from searcher.tasks.base import BaselineTraining, Split, Task
from searcher.tasks.digest import name_of

X = np.random.default_rng(0).random((40, 6)).astype(np.float32)
Y = np.arange(40) % 3


def net(scale: float = 1.0, hidden: int = 4) -> nn.Module:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    with torch.no_grad():
        model[0].weight.mul_(scale)
    return model


class Rows:
    def __init__(self, inputs: np.ndarray = X, draw: Callable[[], float] | None = None) -> None:
        self.inputs, self.draw = inputs, draw

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        noise = 0.0 if self.draw is None else self.draw()
        return self.inputs[index] + np.float32(noise), int(Y[index])


def brighter(inputs: Tensor, seed: int) -> Tensor:
    return inputs * 2


def own(**more: Any) -> Task:
    options: dict[str, Any] = {"model": net(), "training": Rows(), "validation": (X[:20], Y[:20]),
                               "test": (X[20:], Y[20:]), **more}
    return Task("own", **options)


def test_two_equal_tasks_have_one_digest() -> None:
    assert own().digest == own().digest == own(model=net).digest
    assert own(device="cpu", workers=1).digest == own().digest, "where it runs changes nothing"


@pytest.mark.parametrize("more", [
    {"model": net(2.0)}, {"model": net(hidden=5)}, {"model": nn.Sequential(*net(), nn.Dropout())},
    {"training": Rows(X + 1)}, {"training": Rows(X[:39])},
    {"training": Rows(draw=np.random.random)},
    {"validation": (X[:20] + 1, Y[:20])}, {"validation": (X[:20], Y[:20] + 1)}, {"test": None},
    {"metric": "agreement"}, {"loss": nn.functional.multi_margin_loss}, {"augment": brighter},
    {"baseline": BaselineTraining()}, {"batch_size": 32}, {"epoch_samples": 20},
    {"epochs": {"short": 1, "full": 6}}, {"augmented_epochs": 3}, {"longest_full": 2.0},
    {"inputs": ("pixels",)}, {"outputs": ("logits",)}, {"identity": {}}, {"identity": {"a": 1}},
])
def test_what_changes_builds_changes_the_digest(more: dict[str, Any]) -> None:
    assert own(**more).digest != own().digest


def test_an_identity_replaces_model_and_data() -> None:
    def unread() -> Any:
        raise AssertionError

    one = Task("own", net, load=unread, identity={"v": 1})
    assert one.digest == Task("own", nn.Linear(2, 2), load=unread, identity={"v": 1}).digest
    assert one.digest != Task("own", net, load=unread, identity={"v": 2}).digest
    with pytest.raises(TaskError, match="^identity: TypeError"):
        Task("own", net, load=unread, identity={"v": object()}).digest  # noqa: B018


def test_samples_that_do_not_repeat_count_by_shape_and_number() -> None:
    noisy = [own(training=Rows(draw=np.random.default_rng().random)).digest for _ in range(2)]
    assert noisy[0] == noisy[1] != own(
        training=Rows(X[:, :6].repeat(1, 0), np.random.default_rng().random),
        validation=(X[:19], Y[:19])).digest


def test_functions_count_by_their_names() -> None:
    assert name_of(brighter) == f"{__name__}.brighter"
    assert name_of(functools.partial(brighter, seed=3)).startswith(f"{__name__}.brighter")
    assert "3" in name_of(functools.partial(brighter, seed=3))
    assert name_of(nn.CrossEntropyLoss()) != name_of(nn.CrossEntropyLoss(label_smoothing=0.1))
    odd = name_of(functools.partial(brighter, seed=object()))
    assert " at 0x" not in odd


def test_the_parts_of_a_fingerprint_say_what_changed() -> None:
    first, other = own().fingerprint, own(model=net(2.0), test=(X[:20], Y[:20])).fingerprint
    assert {name for name in first if first[name] != other[name]} == {"weights", "test"}


def test_every_process_has_the_same_digest() -> None:
    script = ("from tests.searcher_tests.tasks.test_digest import own; import numpy as np, random;"
              "print(own().digest)")
    found = {subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")}
    assert found == {own().digest + "\n"}


def test_reading_for_the_digest_leaves_random_numbers_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    own(training=Rows(draw=np.random.random), model=lambda: nn.Linear(6, 3)).digest  # noqa: B018
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_the_public_names() -> None:
    assert (fleetfront.Task, fleetfront.Split, fleetfront.BaselineTraining) == (
        Task, Split, BaselineTraining)
    with pytest.raises(AttributeError, match="no attribute 'Tsk'"):
        fleetfront.Tsk  # noqa: B018


def test_a_task_is_a_record() -> None:
    task = own()
    assert dataclasses.replace(task, batch_size=7).batch_size == 7
    assert task.input_names == ("input",) and len(task.samples("test")) == 20


def test_groups_of_samples() -> None:
    task = own(groups=lambda sample: "abc"[int(sample[1])])
    assert task.samples("test").groups(task.groups)[:4] == ["c", "a", "b", "c"]  # type: ignore[arg-type]
    with pytest.raises(TaskError, match=r"^groups: for sample 0 of test: gave int \d, expected"):
        task.samples("test").groups(lambda sample: int(sample[1]))  # type: ignore[arg-type,return-value]
    with pytest.raises(TaskError, match="^groups: for sample 0 of test: KeyError: 'camera'. It go"):
        task.samples("test").groups(lambda sample: {}["camera"])
