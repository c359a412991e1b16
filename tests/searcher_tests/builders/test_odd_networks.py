"""Networks with what no strategy knows, frozen parameters, and channels that nobody can follow: the
rest is compressed."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from searcher.builders.builder import Build, Builder
from searcher.spec.recipe import Recipe, Step
from strategies.encoding.graph import constants
from tests.searcher_tests.builders.test_repaired import CODES, INT8, TARGET, TUNE, residual_task

PRUNE = Step.of("channel_pruning", "model", {"keep_ratio": 0.5, "round_to": 1})


class Wave(nn.Module):
    """A layer of one's own: a matrix over pixels, and a frequency for each channel."""

    def __init__(self, channels: int, pixels: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(pixels) + 0.1 * torch.randn(pixels, pixels))
        self.frequency = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.frequency * (x @ self.matrix))


class Odd(nn.Module):
    """Known layers around ``Wave``, and behind it channels in chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wave = nn.Conv2d(1, 12, 3), Wave(12, 10)
        self.split, self.after = nn.Conv2d(12, 16, 3), nn.Conv2d(8, 8, 3)
        self.hidden, self.head = nn.Linear(8 * 64 + 8 * 36, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wave(torch.relu(self.stem(x)))
        left, right = torch.relu(self.split(x)).chunk(2, 1)
        x = torch.cat([left.flatten(1), torch.relu(self.after(right)).flatten(1)], 1)
        answer: Tensor = self.head(torch.relu(self.hidden(x)))
        return answer


class Frozen(Odd):
    """The user trains the last layers only."""

    def __init__(self) -> None:
        super().__init__()
        for part in (self.stem, self.wave, self.split):
            part.requires_grad_(False)


def builder_of(model: type[nn.Module], folder: Path) -> Builder:
    return Builder(dataclasses.replace(residual_task(), name=model.__name__, model=model), 0,
                   folder)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return builder_of(Odd, tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return builder_of(Frozen, tmp_path_factory.mktemp("frozen"))


def value(build: Build) -> float:
    assert build.evaluation is not None
    return build.evaluation.value


def sizes(model: nn.Module) -> dict[str, int]:
    return {name: len(parameter) for name, parameter in model.named_parameters()
            if name.endswith(("weight", "matrix", "frequency"))}


def test_what_can_be_followed_is_pruned_and_the_rest_stays(odd: Builder) -> None:
    before = odd.model(Recipe(), "full")
    model = odd.model(Recipe((PRUNE,)), "repaired", repair=True)
    assert sizes(model) == {**sizes(before), "hidden.weight": 12}
    for name in ("wave.matrix", "wave.frequency"):
        assert torch.equal(model.get_parameter(name), before.get_parameter(name))
    assert value(odd.compress(Recipe((PRUNE,)), TARGET, repair=True)) > 0.8


def test_a_layer_that_no_strategy_knows_stays_as_it_is_in_the_file(odd: Builder) -> None:
    build = odd.compress(Recipe((PRUNE, CODES)), TARGET, repair=True)
    matrix = odd.model(Recipe(), "full").get_parameter("wave.matrix").detach().numpy()
    held = [array for array in constants(onnx.load_from_string(build.content).graph).values()
            if array.shape == matrix.shape]
    assert any(np.array_equal(array, matrix) for array in held)
    coded = [layer for layer in build.report.layers if layer.op in ("Conv", "Gemm")]
    assert len(coded) == 5 and all(layer.distinct_values <= 4 for layer in coded)
    assert value(build) > 0.8


def test_all_stages_of_a_network_with_an_unknown_layer(odd: Builder) -> None:
    build = odd.train(Recipe((PRUNE, CODES, TUNE, INT8)), "short", TARGET, repair=True)
    assert build.number_format == "int8" and value(build) > 0.8


@pytest.mark.parametrize("steps", [(PRUNE,), (PRUNE, CODES)], ids=["pruned", "coded"])
def test_frozen_parameters_are_repaired_and_not_trained(frozen: Builder,
                                                        steps: tuple[Step, ...]) -> None:
    repaired = frozen.model(Recipe((*steps, TUNE)), "repaired", repair=True)
    short = frozen.model(Recipe((*steps, TUNE)), "short", repair=True)
    for name in ("stem", "split"):
        torch.testing.assert_close(repaired.get_submodule(name).weight,
                                   short.get_submodule(name).weight)
    assert not torch.equal(repaired.hidden.weight, short.hidden.weight)
    assert value(frozen.train(Recipe((*steps, TUNE)), "short", TARGET, repair=True)) > 0.6
