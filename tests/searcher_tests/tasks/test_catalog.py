import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from searcher.errors import UserError
from searcher.spec.fidelity import TRAINED
from searcher.tasks import catalog
from searcher.tasks.lenet5 import affine
from searcher.tasks.zoo.lenet5 import lenet5
from tests.conftest import TINY


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder for modules of a user."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in {"broken_syntax": "def", "breaks": "raise ValueError('my bug')",
                       "needs_more": "import not_installed_at_all",
                       "no_function": "make = 3", "raises": "def make(): return 1 / 0"}.items():
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)


def test_a_users_own_task(tiny) -> None:
    assert catalog.task(TINY) is tiny and tiny.name == "tiny"


@pytest.mark.parametrize(("name", "said"), [
    ("lenet5-mnits", "Unknown task 'lenet5-mnits'. Did you mean 'lenet5-mnist'?"),
    ("nothing like it", "package.module:factory"),
    ("no_such_package:make", "No module named 'no_such_package'"),
    ("tests.tasks_for_tests:huge", "has no function 'huge'"),
    ("tests.tasks_for_tests:no_task", "gave the text 'tiny', expected a fleetfront.Task"),
    ("broken_syntax:make", "cannot be imported"),
    ("needs_more:make", "No module named 'not_installed_at_all'"),
    ("breaks:make", "my bug"),
    ("no_function:make", "no_function:make"),
    ("raises:make", "division by zero"),
    (":make", "':make'"),
    ("..relative:make", "..relative"),
])
def test_a_task_that_cannot_be_had(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        catalog.task(name)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", catalog.TASKS)
def test_built_in_tasks(name: str) -> None:
    task = catalog.task(name)
    assert task.name == name and tuple(task.epochs) == TRAINED
    assert sorted(task.epochs.values()) == list(task.epochs.values()) and len(task.digest) == 64


@pytest.mark.parametrize(("name", "digest"), [
    ("lenet5-mnist", "dd85a3c6f490eb738f53be63628c357b64da5361124991e347bfda227065d2e7"),
    ("lenet5-mnist-full", "e81c56b9f852af39bf86af9c73a5172678ad5079619ec704093392294e3fbc6e"),
    ("lenet5-fashion", "be1171353e1dd5f9f6d0bef16f8dff0b10908ed6f90be54fae742cbfc38e7947"),
])
def test_the_digests_of_built_in_tasks_stay(name: str, digest: str) -> None:
    """Digests seed the training of every build: with another one no old file is built again."""
    assert catalog.task(name).digest == digest


def test_lenet_is_hans() -> None:
    model = lenet5()
    assert sum(p.numel() for p in model.parameters()) == 431_080
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_augmentation_is_fixed_by_its_seed() -> None:
    images = torch.zeros(8, 1, 28, 28)
    images[:, :, 10:18, 10:18] = 1
    first = affine(images, 3)
    assert torch.equal(first, affine(images, 3)) and not torch.equal(first, affine(images, 4))
    assert first.shape == images.shape and len({p.numpy().tobytes() for p in first}) == 8
    still = affine(images, 3, degrees=0, shift=0, scale=0)
    assert np.allclose(still, images, atol=1e-5)
