"""Recipes that are asked for first."""

from typing import Any

from searcher.search.recipes.warm_starts import (
    MOST_EARLIER,
    earlier_recipes,
    front_parameters,
    known_recipes,
)
from searcher.search.sampling import Sampling
from searcher.search.space import Space
from strategies.layers import layers_of
from tests.searcher_tests.fake_coordinator import FakeCoordinator, Scripted, campaign, search_of
from tests.tasks_for_tests import network


def space(*strategies: str) -> Space:
    spec = campaign(search={"strategies": list(strategies)})
    return Space.of(spec, layers_of(network()), frozenset({"float32", "int8"}))


def recipe_of(searched: Space, draft: dict[str, float]) -> list[tuple[str, str]]:
    proposal = Sampling(campaign(), searched).ask(draft=draft)
    return [(s.strategy, s.layers) for s in searched.compression(proposal.recipe).steps]


def test_known_recipes_use_what_the_space_offers() -> None:
    everything = space()
    recipes = [recipe_of(everything, dict(draft)) for draft in known_recipes(everything)]
    assert recipes[:2] == [[("int8", "model")], [("channel_pruning", "model"), ("int8", "model")]]
    assert [("magnitude_pruning", "model"), ("clustering", "model")] in [
        sorted(recipe, key=lambda step: step[0] == "clustering") for recipe in recipes]
    assert known_recipes(space("svd")) == []
    assert len(known_recipes(space("int8", "clustering"))) == 2


def test_numbers_stay_within_the_limits_of_the_campaign() -> None:
    spec = campaign(search={"limits": {"clustering.bits": [5, 6]}})
    narrow = Space.of(spec, layers_of(network()), frozenset({"float32", "int8"}))
    bits = [draft["model.clustering.bits"] for draft in known_recipes(narrow)
            if "model.clustering.bits" in draft]
    assert bits == [5, 5]


def trial(number: int, file_bytes: int, accuracy: float, state: str = "complete") -> Any:
    from searcher.client.records import Trial
    from searcher.documents import parse
    return parse(Trial, {
        "id": number, "campaign": "before", "device": "fake", "number": number, "recipe": "r",
        "options": {}, "parameters": {"values": {"model.int8.on": number}, "distributions": {}},
        "state": state, "values": {"accuracy": accuracy, "latency_s": 1.0 * file_bytes,
                                   "file_bytes": file_bytes, "quality_drop": 0.0},
        "intervals": {}, "constraints": {}, "reason": None, "message": None, "sha256": None,
        "evaluations": None, "measurement": None, "started_s": 0.0, "finished_s": None})


def test_the_front_of_an_earlier_campaign_is_used_evenly() -> None:
    rows = [trial(i, 1000 - 10 * i, 0.9 - 0.001 * i) for i in range(1, 40)]
    rows += [trial(50, 2000, 0.5), trial(51, 1, 1.0, "pruned")]
    found = front_parameters(rows, campaign().objectives)
    numbers = [parameters["model.int8.on"] for parameters in found]
    assert len(numbers) == MOST_EARLIER and numbers == sorted(numbers, reverse=True)
    assert not {50, 51} & set(numbers)


def test_only_campaigns_on_the_same_task_are_used() -> None:
    spec = campaign(budget={"candidates": 1, "wall_minutes": 60})
    client = FakeCoordinator(spec.as_dict())
    search_of(client, Scripted("a"), spec).run()

    class Ledger:
        def campaigns(self) -> list[Any]:
            return [client.campaign("c")]

        def trials(self, name: str) -> list[Any]:
            return client.trials(name)

    ledger: Any = Ledger()
    assert earlier_recipes(ledger, "digest", "other", spec.objectives) == [], "unknown task"
    client.states["fake"]["task"] = {
        "digest": "digest", "parts": {}, "metric": "accuracy", "samples": {}, "epochs": {},
        "baseline_epochs": None, "parameters": 1, "file_bytes": 1, "step_s": 1.0, "epoch_s": 1.0,
        "data_bytes": 1}
    assert len(earlier_recipes(ledger, "digest", "other", spec.objectives)) == 1
    assert earlier_recipes(ledger, "digest", "c", spec.objectives) == [], "its own trials"
