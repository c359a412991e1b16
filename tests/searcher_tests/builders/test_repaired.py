"""Builds of a residual network with BatchNorm: folded, repaired without training, trained on."""

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from searcher.builders.builder import Build, Builder
from searcher.errors import BuildError
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.base import BaselineTraining, Split, Task
from searcher.tasks.stratified_split import stratified
from strategies.encoding.constraints import BrokenPromiseError
from strategies.encoding.graph import constants
from strategies.target import Target
from tests.tasks_for_tests import pictures

TARGET = Target()
PRUNE = Step.of("channel_pruning", "convolutions", {"keep_ratio": 0.5, "round_to": 1})
THIN = Step.of("channel_pruning", "hidden", {"keep_ratio": 0.5, "round_to": 1})
SVD = Step.of("svd", "hidden", {"rank_ratio": 0.25})
MASK = Step.of("magnitude_pruning", "model", {"keep_ratio": 0.4})
CODES = Step.of("clustering", "model", {"bits": 2})
TUNE = Step.of("finetune", "model", {"learning_rate": 0.003})
INT8 = Step.of("int8", "model", {})


class Residual(nn.Module):
    """Two branches with BatchNorm, one of them depthwise."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.depth = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.point = nn.Conv2d(12, 12, 1)
        self.hidden = nn.Linear(12 * 25, 24)
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.point(torch.relu(self.norm(self.depth(x)))))
        x = nn.functional.max_pool2d(x, 2).flatten(1)
        answer: Tensor = self.head(torch.relu(self.hidden(x)))
        return answer


@functools.cache
def _load() -> dict[str, Split]:
    images, labels = pictures()
    return {name: Split(images[index], labels[index]) for name, index in stratified(
        labels, {"training": 180, "validation": 60, "test": 60}, seed=0).items()}


def residual_task() -> Task:
    return Task(name="residual", model=Residual, load=_load, identity={"pictures": "bars-0"},
                epochs={"short": 1, "full": 3}, batch_size=20, epoch_samples=180,
                augmented_epochs=2, baseline=BaselineTraining(
                    learning_rate=1e-2, cycle_epochs=6, max_epochs=6))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trained baseline."""
    folder = tmp_path_factory.mktemp("baseline")
    Builder(residual_task(), 0, folder).train(Recipe(), "full", TARGET)
    return folder


@pytest.fixture
def residual(trained: Path, tmp_path: Path) -> Iterator[Builder]:
    shutil.copytree(trained, tmp_path / "builds")
    yield Builder(residual_task(), 0, tmp_path / "builds")


def recipe(*steps: Step) -> Recipe:
    return Recipe(steps)


def value(build: Build) -> float:
    assert build.evaluation is not None
    return build.evaluation.value


def test_batchnorm_is_folded_before_the_first_step(residual: Builder) -> None:
    model = residual.model(recipe(CODES, TUNE), "short")
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    base = residual.model(Recipe(), "full")
    assert [m for m in base.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("steps", [
    recipe(PRUNE), recipe(PRUNE, THIN, SVD), recipe(MASK), recipe(CODES), recipe(PRUNE, MASK, CODES)
], ids=["pruned", "thrice", "masked", "coded", "all"])
def test_repair_wins_back_most_of_the_quality(residual: Builder, steps: Recipe) -> None:
    baseline = value(residual.train(Recipe(), "full", TARGET))
    plain = residual.compress(steps, TARGET)
    repaired = residual.compress(steps, TARGET, repair=True)
    assert plain.evaluation is None and plain.graph_key == repaired.graph_key
    assert plain.key != repaired.key
    lost = baseline - residual.evaluate(plain.content, "validation").value
    assert baseline - value(repaired) <= max(0.12, 0.5 * lost)


@pytest.mark.parametrize("steps", [recipe(PRUNE, SVD), recipe(PRUNE, MASK, CODES, TUNE, INT8)],
                         ids=["structure", "all"])
def test_repair_gives_the_same_bytes_again(residual: Builder, trained: Path, tmp_path: Path,
                                           steps: Recipe) -> None:
    first = residual.compress(steps, TARGET, repair=True)
    warm = residual.compress(steps, TARGET, repair=True)
    assert (warm.sha256, warm.built_steps) == (first.sha256, steps.steps.count(INT8))
    shutil.copytree(trained, tmp_path / "again")
    again = Builder(residual_task(), 0, tmp_path / "again")
    assert again.compress(steps, TARGET, repair=True).sha256 == first.sha256
    killed = next((tmp_path / "again").rglob("*.partial"), None)
    assert killed is None


def test_after_a_kill_between_steps_the_bytes_are_the_same(
        residual: Builder, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = recipe(PRUNE, MASK, CODES, TUNE)
    whole = residual.train(steps, "short", TARGET, repair=True)
    shutil.copytree(trained, tmp_path / "killed")

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("searcher.builders.prefixes.repair_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            Builder(residual_task(), 0, tmp_path / "killed").train(
                steps, "short", TARGET, repair=True)
    resumed = Builder(residual_task(), 0, tmp_path / "killed").train(
        steps, "short", TARGET, repair=True)
    assert resumed.sha256 == whole.sha256 and resumed.reused_steps == 1


def test_training_continues_from_repaired_weights(residual: Builder) -> None:
    steps = recipe(PRUNE, CODES, TUNE)
    repaired = value(residual.compress(steps, TARGET, repair=True))
    short = residual.train(steps, "short", TARGET, repair=True)
    plain = residual.train(steps, "short", TARGET)
    assert short.key != plain.key and short.sha256 != plain.sha256
    assert value(short) >= repaired - 0.1


def test_given_epochs_replace_those_of_the_task(residual: Builder, epochs: list[int]) -> None:
    steps = recipe(PRUNE, TUNE)
    longer = residual.train(steps, "full", TARGET, epochs={"short": 2, "full": 4, "extended": 9})
    assert epochs == [0, 1, 2, 3]
    own = residual.train(steps, "full", TARGET)
    assert own.key != longer.key and len(epochs) == 4 + 3
    again = residual.train(steps, "full", TARGET, epochs={"short": 2, "full": 4})
    assert again.key == longer.key and len(epochs) == 4 + 3, "later fidelities do not matter"


def test_codes_and_int8_share_their_tables(residual: Builder) -> None:
    build = residual.compress(recipe(CODES, INT8), TARGET, repair=True)
    assert value(build) > 0.5
    coded = [layer for layer in build.report.layers if layer.parameters > 200]
    assert coded and all(layer.distinct_values <= 4 for layer in coded)


def test_a_table_changes_exactly_its_layers(residual: Builder) -> None:
    model = residual.model(recipe(Step.of("clustering", "model", {"bits": {
        "hidden": 1, "depth": 2}})), "untrained")
    assert {name for name, module in model.named_modules()
            if torch.nn.utils.parametrize.is_parametrized(module)} == {"hidden", "depth"}
    assert model.get_submodule("hidden").weight.unique().numel() == 2


def test_a_table_holds_for_the_parts_of_a_layer(residual: Builder) -> None:
    model = residual.model(recipe(SVD, Step.of("clustering", "model", {"bits": {"hidden": 3}})),
                           "untrained")
    assert {name for name, module in model.named_modules()
            if torch.nn.utils.parametrize.is_parametrized(module)} == {"hidden.0", "hidden.1"}


def test_a_table_with_an_unknown_layer_names_it(residual: Builder) -> None:
    with pytest.raises(BuildError, match=r"step 1 .*There is no layer hiden\.") as caught:
        residual.compress(recipe(Step.of("clustering", "model", {"bits": {"hiden": 3}})), TARGET)
    assert caught.value.reason == "unknown_layers"


def test_the_narrower_step_decides_and_tells_builds_apart(residual: Builder) -> None:
    wide = Step.of("channel_pruning", "model", {"keep_ratio": 0.5, "round_to": 1})
    narrow = Step.of("channel_pruning", "hidden", {"keep_ratio": 0.25, "round_to": 1})
    model = residual.model(recipe(wide, narrow), "untrained")
    assert model.get_submodule("hidden").out_features == 6, "a quarter, not an eighth"
    assert residual.model(recipe(wide), "untrained").get_submodule("hidden").out_features == 12


def test_steps_without_effect_do_not_change_a_build(residual: Builder) -> None:
    none = Step.of("channel_pruning", "head", {"keep_ratio": 0.5, "round_to": 1})
    assert residual.compress(recipe(none, CODES), TARGET).key == residual.compress(
        recipe(CODES), TARGET).key


def test_a_file_without_its_table_is_a_defect(residual: Builder,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    export = Builder._exported

    def noisy(self: Builder, model: nn.Module, target: Target) -> onnx.ModelProto:
        graph = export(self, model, target)
        for tensor in graph.graph.initializer:
            array = constants(graph.graph)[tensor.name]
            if array.ndim == 2:
                noise = np.random.default_rng(0).normal(size=array.shape).astype(array.dtype)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array + noise, tensor.name))
        return graph

    monkeypatch.setattr(Builder, "_exported", noisy)
    with pytest.raises(BrokenPromiseError, match="distinct values"):
        residual.compress(recipe(CODES), TARGET)
