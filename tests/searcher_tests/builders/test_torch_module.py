"""The torch module of a build, loaded again where neither the task nor its data are."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm

import fleetfront
from searcher.builders.builder import Builder
from searcher.builders.torch_module import FIGURES, FILE, store
from searcher.errors import UserError
from searcher.local.build import build_recipe
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.catalog import task
from tests.conftest import TINY
from tests.tasks_for_tests import pictures

REPOSITORY = Path(__file__).parents[3]
INPUTS = torch.from_numpy(pictures()[0][:20])
OWN = '''
"""A user's own model and task."""

import torch
from torch import nn

from fleetfront import BaselineTraining, Task
from tests.tasks_for_tests import _load


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.hidden, self.head = nn.Linear(8 * 36, 24), nn.Linear(24, 4)

    def forward(self, picture):
        x = self.first(picture)
        x = torch.relu(x + self.inner(x))
        return {"logits": self.head(torch.relu(self.hidden(x.flatten(1))))}


def task():
    return Task("skipping", Skipping, load=_load, identity={"made": 1},
                loss=lambda out, y: nn.functional.cross_entropy(out["logits"], y),
                epochs={"short": 1, "full": 2}, batch_size=30,
                baseline=BaselineTraining(1e-2, cycle_epochs=2, max_epochs=2))
'''
FINETUNE = Step.of("finetune", "model", {"learning_rate": 0.005})
INT8 = Step.of("int8", "model", {})
PRUNED = Recipe((Step.of("channel_pruning", "convolutions", {"keep_ratio": 0.6, "round_to": 1}),
                 Step.of("magnitude_pruning", "fully_connected", {"keep_ratio": 0.3}), FINETUNE))
CLUSTERED = Recipe((Step.of("svd", "fc1", {"rank_ratio": 0.25}),
                    Step.of("magnitude_pruning", "model", {"keep_ratio": 0.5}),
                    Step.of("clustering", "model", {"bits": 3}), FINETUNE, INT8))
OWN_RECIPE = Recipe((Step.of("svd", "hidden", {"rank_ratio": 0.25}),
                     Step.of("clustering", "model", {"bits": 3}), FINETUNE))


def built(recipe: Recipe, folder: Path, of: str = TINY) -> Path:
    """The folder of a build with short training."""
    (folder / "recipe.toml").write_text(recipe.as_toml())
    build_recipe(str(folder / "recipe.toml"), of, "short", folder / "out", 0, folder)
    return folder / "out"


def outputs(model: nn.Module, inputs: Tensor = INPUTS) -> Tensor:
    with torch.no_grad():
        found = model.eval()(inputs)
    result: Tensor = found["logits"] if isinstance(found, dict) else found
    return result


@pytest.mark.parametrize("recipe", [Recipe(), PRUNED, CLUSTERED],
                         ids=["baseline", "pruned", "clustered"])
def test_it_computes_what_the_builder_exported(
        recipe: Recipe, builds: Path, tmp_path: Path) -> None:
    model = fleetfront.load_torch(built(recipe, tmp_path))
    assert not model.training
    exported = Builder(task(TINY), 0, tmp_path / "builds").model(recipe, "short")
    assert torch.equal(outputs(model), outputs(exported))
    assert {name: one.requires_grad for name, one in model.named_parameters()} == {
        name: one.requires_grad for name, one in exported.named_parameters()}
    figures = json.loads((tmp_path / "out" / FIGURES).read_text())["torch_module"]
    assert figures["steps_left_out"] == (["int8"] if INT8 in recipe.steps else [])


def test_masks_and_codebooks_stay_in_force_in_training(builds: Path, tmp_path: Path) -> None:
    model: Any = fleetfront.load_torch(built(CLUSTERED, tmp_path))
    before = outputs(model)
    zeros = {name: one.weight == 0 for name, one in model.named_modules()
             if parametrize.is_parametrized(one, "weight")}
    assert len(zeros) == 5 and all(bool(mask.any()) for mask in zeros.values())
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    labels = torch.from_numpy(pictures()[1][:20])
    model.train()
    for _ in range(6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(INPUTS), labels).backward()
        optimizer.step()
    assert not torch.equal(outputs(model), before), "it learns"
    for name, mask in zeros.items():
        weight = model.get_submodule(name).weight
        assert bool((weight[mask] == 0).all())
        assert all(len(channel.unique()) <= 8 for channel in weight.flatten(1)), "3 bits"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a build of a user's own class, whose module is in ``code``."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own_model.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    torch.set_num_threads(1)
    return built(OWN_RECIPE, tmp_path, "own_model:task")


LOADS = """
import sys, numpy, torch, fleetfront
from searcher.errors import UserError
torch.set_num_threads(1)
try:
    model = fleetfront.load_torch(sys.argv[1])
except UserError as error:
    sys.exit(str(error))
with torch.no_grad():
    found = model(torch.from_numpy(numpy.load(sys.argv[2])))
numpy.save(sys.argv[3], found["logits"].numpy())
assert "tests.tasks_for_tests" not in sys.modules or "own_model" in sys.modules
assert "searcher.tasks.lenet5" not in sys.modules, "no task is needed"
"""


def loaded_elsewhere(folder: Path, tmp_path: Path,
                     *path: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, with ``path`` to import from."""
    np.save(tmp_path / "inputs.npy", INPUTS.numpy())
    return subprocess.run(
        [sys.executable, "-c", LOADS, str(folder), str(tmp_path / "inputs.npy"),
         str(tmp_path / "found.npy")], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, *path)))})


def test_a_users_own_class_is_loaded_in_another_process(own: Path, tmp_path: Path) -> None:
    done = loaded_elsewhere(own, tmp_path, tmp_path / "code")
    assert done.returncode == 0, done.stderr
    exported = Builder(task("own_model:task"), 0, tmp_path / "builds").model(OWN_RECIPE, "short")
    assert np.array_equal(np.load(tmp_path / "found.npy"), outputs(exported).numpy())
    session = onnxruntime.InferenceSession(own / "model.onnx", providers=["CPUExecutionProvider"])
    (computed,) = session.run(["logits"], {"picture": INPUTS.numpy()})
    assert np.allclose(computed, np.load(tmp_path / "found.npy"), atol=1e-4)


def test_a_class_that_cannot_be_imported_is_named(own: Path, tmp_path: Path) -> None:
    done = loaded_elsewhere(own, tmp_path)
    assert done.returncode == 1 and "own_model:Skipping" in done.stderr
    assert "PYTHONPATH" in done.stderr and "Traceback" not in done.stderr


# -- folders that cannot be loaded -------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    about = store(nn.Linear(2, 1), tmp_path, ())
    write(tmp_path, torch_module=vars(about))
    assert isinstance(fleetfront.load_torch(tmp_path), nn.Linear)
    return tmp_path


def write(folder: Path, **figures: Any) -> None:
    (folder / FIGURES).write_text(json.dumps({"sha256": "0" * 64, **figures}))


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        fleetfront.load_torch(folder)
    assert all(word in str(caught.value) for word in (str(folder), *words))


def test_a_folder_that_is_none_of_a_build(folder: Path) -> None:
    refused(folder / "absent", "does not exist", "fleetfront build -o")
    (folder / FIGURES).unlink()
    refused(folder, "has no figures.json")


def test_a_folder_of_another_version(folder: Path) -> None:
    write(folder)
    refused(folder, "an older version built it", "Build it again")
    about = {"file": FILE, "format": 99, "torch": "9.9", "module_class": "m:C"}
    write(folder, torch_module=about)
    refused(folder, "has format 99", "reads 1")


@pytest.mark.parametrize("content", [None, b"", b"garbage", "half"])
def test_a_damaged_file(folder: Path, content: bytes | str | None) -> None:
    file = folder / FILE
    whole = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(whole[:len(whole) // 2] if isinstance(content, str) else content)
    refused(folder, FILE, "Build it again")


def test_figures_that_are_no_json(folder: Path) -> None:
    (folder / FIGURES).write_text("{")
    refused(folder, "cannot be read")


def test_a_class_that_cannot_be_stored_is_named(tmp_path: Path) -> None:
    class Local(nn.Linear):
        pass

    about = store(Local(2, 1), tmp_path, ())
    assert about.file is None and not (tmp_path / FILE).exists()
    write(tmp_path, torch_module=vars(about))
    refused(tmp_path, "could not be stored", "Local", "must be picklable")


def test_constraints_of_the_users_own_are_kept(folder: Path) -> None:
    model = nn.Linear(3, 2)
    parametrize.register_parametrization(model, "weight", _WeightNorm(0), unsafe=True)
    model.bias.requires_grad_(False)
    write(folder, torch_module=vars(store(model, folder, ())))
    found: Any = fleetfront.load_torch(folder)
    inputs = torch.rand(4, 3)
    assert torch.equal(outputs(found, inputs), outputs(model, inputs))
    assert found.state_dict().keys() == model.state_dict().keys()
    assert not found.bias.requires_grad
    assert found.parametrizations.weight.original0.requires_grad
