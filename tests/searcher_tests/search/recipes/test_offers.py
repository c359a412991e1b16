"""A search offers a step only where it can change something."""

import dataclasses

from torch import nn

from fleetfront_testing.networks import EXAMPLE, Residual, plain
from searcher.search.recipes.applicable import model_layers, trial_of
from searcher.search.recipes.offers import offers
from searcher.search.space import Space
from searcher.spec.campaign import from_document
from searcher.spec.recipe import Recipe, Step
from strategies.base import Layer, Limits, StructureStrategy
from strategies.catalog import strategy
from strategies.layers import layers_of
from tests.strategies_tests.structure.test_partly_followed import Shuffle
from tests.tasks_for_tests import network, tiny


def offered(model: nn.Module, name: str) -> list[str]:
    found, _ = offers([strategy(name)], layers_of(model, (EXAMPLE,)), Limits())
    return [group for group, _ in found]


def test_layers_that_give_the_outputs_are_not_pruned() -> None:
    classifier = Layer("fc", "fully_connected", (10, 64),
                       frozenset({"model", "fully_connected", "last", "fc"}), output=True)
    stem = Layer("stem", "convolution", (32, 1, 3, 3),
                 frozenset({"model", "convolutions", "first", "stem"}))
    found, _ = offers([strategy("channel_pruning")], [stem, classifier], Limits())
    assert [group for group, _ in found] == ["model"], "the other groups are empty or the same"
    nothing, notes = offers([strategy("channel_pruning")], [classifier], Limits())
    assert not nothing and notes == [
        "channel_pruning is left out: no layer is large enough, or of its kind"]


def test_narrow_groups_are_offered_where_they_differ() -> None:
    names = ["model", "convolutions", "fully_connected", "pointwise", "first", "last"]
    for model in (plain(), Residual()):
        found = offered(model, "clustering")
        assert found == [name for name in names if name in found] and "model" in found
        assert "depthwise" not in found


def test_a_step_that_the_model_refuses_is_left_out_with_the_reason() -> None:
    def refuses(step: StructureStrategy, names: object) -> str:
        return "a reshape mixes channels"

    found, notes = offers([strategy("channel_pruning"), strategy("clustering")],
                          layers_of(plain(), (EXAMPLE,)), Limits(), refuses)
    assert {s.name for _, s in found} == {"clustering"}
    assert notes == ["channel_pruning is left out: a reshape mixes channels"]


def test_layers_that_a_step_leaves_are_noted_with_the_operator() -> None:
    """The graph breaks at a chunk; the rest is offered."""
    task = dataclasses.replace(tiny(), model=Shuffle())
    found, notes = offers([strategy("channel_pruning"), strategy("svd")], model_layers(task),
                          Limits(), trial_of(task))
    assert ("model", strategy("channel_pruning")) in found
    [note] = notes
    assert note.startswith("channel_pruning leaves c: ") and "; d: " in note
    assert "chunk in Shuffle" in note and "stem" not in note


def test_a_note_names_a_few_layers_only() -> None:
    def leaves(step: StructureStrategy, names: object) -> dict[str, str]:
        return {f"layer{number}": "a reshape" for number in range(9)}

    _, [note] = offers([strategy("channel_pruning")], layers_of(plain(), (EXAMPLE,)), Limits(),
                       leaves)
    assert note.endswith("layer5: a reshape; 3 more layers") and "layer6" not in note


def test_a_model_without_a_layer_that_a_strategy_knows() -> None:
    layers = layers_of(nn.Sequential(nn.Flatten(1, 2), nn.GRU(12, 4)), (EXAMPLE,))
    found, notes = offers([strategy(name) for name in ("channel_pruning", "tucker", "clustering")],
                          layers, Limits())
    assert not found and [note.partition(" is left out")[0] for note in notes] == [
        "channel_pruning", "tucker", "clustering"]


def test_structure_steps_are_tried_on_a_copy_of_the_model() -> None:
    task = tiny()
    layers = model_layers(task)
    assert [layer.name for layer in layers] == ["conv1", "conv2", "fc1", "fc2"]
    why_not = trial_of(task)
    pruning = strategy("channel_pruning")(keep_ratio=0.5)
    assert isinstance(pruning, StructureStrategy)
    assert not why_not(pruning, ["conv1"])
    refused, partly = why_not(pruning, ["fc2"]), why_not(pruning, ["conv1", "fc2"])
    assert isinstance(refused, str) and "fc2" in refused
    assert partly == {"fc2": "its channels are outputs of the model"}
    assert task.module().conv1.out_channels == network().conv1.out_channels


def test_recipes_are_in_canonical_form() -> None:
    spec = from_document({"name": "c", "task": "t"})
    space = Space.of(spec, layers_of(network()), frozenset({"float32", "int8"}))

    class Full(dict[str, float]):
        """Everything on, at the strong end."""

        def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
            return low

        def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
            return low

        def suggest_categorical(self, name: str, choices: object) -> bool:
            return True

    steps = [(s.strategy, s.layers) for s in space.sample(Full()).steps]
    assert ("clustering", "first") in steps, "decides its layer"
    assert ("clustering", "last") in steps and ("channel_pruning", "last") not in steps
    assert len(steps) == len(set(steps))


def test_a_recipe_without_training_has_the_compression_only() -> None:
    spec = from_document({"name": "c", "task": "t"})
    space = Space.of(spec, layers_of(network()), frozenset({"float32", "int8"}))
    recipe = Recipe((Step.of("clustering", "model", {"bits": 3}), Step.of("finetune", "model", {})))
    assert [s.strategy for s in space.compression(recipe).steps] == ["clustering"]
