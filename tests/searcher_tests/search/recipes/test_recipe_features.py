import pytest

from searcher.search.recipes.recipe_features import PRESENT, Features
from searcher.search.space import Space
from searcher.spec.campaign import from_document
from searcher.spec.recipe import Recipe, Step
from strategies.layers import layers_of
from tests.tasks_for_tests import network

CAMPAIGN = from_document({"name": "c", "task": "t"})
SPACE = Space.of(CAMPAIGN, layers_of(network()), frozenset({"float32", "int8"}))
FEATURES = Features(SPACE)


def row(*steps: Step) -> dict[str, float]:
    found = dict(zip(FEATURES.names, FEATURES.of(Recipe(steps)), strict=True))
    return {name: value for name, value in found.items() if value}


def test_the_baseline_is_all_zeros() -> None:
    assert row() == {}


def test_the_whole_model_counts_for_each_part() -> None:
    whole = row(Step.of("clustering", "model", {"bits": 2}))
    parts = row(Step.of("clustering", "convolutions", {"bits": 2}),
                Step.of("clustering", "fully_connected", {"bits": 2}))
    assert whole == parts == {"convolutions.clustering": 1, "fully_connected.clustering": 1}


def test_features_from_weak_to_strong() -> None:
    span = SPACE.strengths["model.channel_pruning.keep_ratio"]
    found = [row(Step.of("channel_pruning", "convolutions", {"keep_ratio": ratio}))
             ["convolutions.channel_pruning"] for ratio in (1.0, span.high, 0.2, span.low, 0.001)]
    assert found[0] == found[1] == pytest.approx(PRESENT) and found[3] == found[4] == 1
    assert PRESENT < found[2] < 1


def test_features_of_trainings_and_formats() -> None:
    """A learning rate is a logarithm, from -0.5 at the highest to 0.5 at the lowest."""
    span = SPACE.training_numbers["finetune.learning_rate"]
    found = row(Step.of("finetune", "model", {"learning_rate": span.low}),
                Step.of("int8", "model", {}))
    assert found["finetune.learning_rate"] == pytest.approx(0.5)
    middle = row(Step.of("finetune", "model", {"learning_rate": (span.low * span.high) ** 0.5}))
    assert middle.get("finetune.learning_rate", 0.0) == pytest.approx(0.0, abs=1e-5)
    assert PRESENT < found["model.finetune"] < 1 and PRESENT < found["model.int8"] < 1


def test_steps_outside_the_space_are_ignored() -> None:
    assert row(Step.of("unheard_of", "model", {"strength": 1})) == {}
