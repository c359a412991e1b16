"""A user with eight training samples: repair, int8, scans and training take what there is."""

import copy
import dataclasses
import math
from pathlib import Path

import pytest
from torch import nn

from searcher.builders.builder import Build, Builder
from searcher.builders.scan import scan
from searcher.jobs.scan import ScanRequest
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.base import Split, Task
from tests.searcher_tests.builders.test_repaired import (
    CODES,
    INT8,
    MASK,
    PRUNE,
    SVD,
    TARGET,
    TUNE,
    residual_task,
)

SAMPLES = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """Trained elsewhere, on all samples."""
    return Builder(residual_task(), 0, tmp_path_factory.mktemp("elsewhere")).model(Recipe(), "full")


def few(model: nn.Module, samples: int) -> Task:
    def load() -> dict[str, Split]:
        data = dict(residual_task().load())
        whole = data["training"]
        return {**data, "training": Split(whole.inputs[:samples], whole.targets[:samples])}

    return dataclasses.replace(
        residual_task(), name="few", model=copy.deepcopy(model), load=load, baseline=None,
        identity={"samples": samples}, epoch_samples=None)


def builder_of(model: nn.Module, samples: int, folder: Path) -> Builder:
    return Builder(few(model, samples), 0, folder)


def value(build: Build) -> float:
    assert build.evaluation is not None
    return build.evaluation.value


@pytest.mark.parametrize("steps", [
    (PRUNE,), (SVD,), (CODES,), (MASK,), (INT8,), (PRUNE, SVD, MASK, CODES, INT8)],
    ids=["pruned", "svd", "coded", "masked", "int8", "all"])
def test_repair_on_eight_samples_does_no_harm(model: nn.Module, tmp_path: Path,
                                              steps: tuple[Step, ...]) -> None:
    builder = builder_of(model, SAMPLES, tmp_path)
    assert len(builder.prefixes.calibration[0]) == SAMPLES
    plain = builder.compress(Recipe(steps), TARGET)
    repaired = builder.compress(Recipe(steps), TARGET, repair=True)
    assert value(repaired) >= builder.evaluate(plain.content, "validation").value - 0.02
    assert value(repaired) > 0.6


def test_one_sample_is_enough_for_a_build(model: nn.Module, tmp_path: Path) -> None:
    builder = builder_of(model, 1, tmp_path)
    build = builder.compress(Recipe((PRUNE, SVD, MASK, CODES, INT8)), TARGET, repair=True)
    assert build.number_format == "int8" and value(build) > 0.3


def test_training_goes_on_from_what_eight_samples_repaired(model: nn.Module, tmp_path: Path
                                                           ) -> None:
    builder = builder_of(model, SAMPLES, tmp_path)
    build = builder.train(Recipe((PRUNE, CODES, TUNE)), "short", TARGET, repair=True)
    assert value(build) > 0.6


@pytest.mark.parametrize("strategy", ["channel_pruning", "clustering"])
def test_a_scan_of_eight_samples(model: nn.Module, tmp_path: Path, strategy: str) -> None:
    prefixes = builder_of(model, SAMPLES, tmp_path).prefixes
    found = scan(prefixes, ScanRequest("few", strategy, seconds=600.0))
    assert found.samples == SAMPLES
    for layer in found.layers:
        assert layer.levels[0].loss > 0 and all(
            math.isfinite(level.loss) for level in layer.levels)
