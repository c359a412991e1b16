"""Which recipe the search samples next, and how many ahead of training."""

import pytest

from searcher.search.acquisition import NO_COST_S
from searcher.search.promotion import TURNOVER
from searcher.search.proposals import AHEAD
from searcher.search.sampling import STARTUP_TRIALS
from searcher.spec.recipe import Recipe, Step
from tests.searcher_tests.fake_coordinator import (
    FakeCoordinator,
    Fate,
    Scripted,
    campaign,
    search_of,
)
from tests.searcher_tests.search.test_loop import ran


def test_sampling_is_bounded_by_trainings() -> None:
    """The number of sampled recipes is bounded by the number of trainings; when no candidate is
    worth training, sampling continues."""
    fates = {f"n{i:03d}": Fate(ratio=0.9 - 0.005 * i, file_bytes=900 - 5 * i) for i in range(100)}
    client, sampling, _ = ran(tuple(fates), fates, budget={"candidates": 100, "wall_minutes": 3})
    trained = sum(p["fidelity"] == "short" for p in client.of_kind("train") if p["recipe"])
    assert sampling.asked <= STARTUP_TRIALS + TURNOVER * trained + AHEAD < 100
    slow = {name: Fate(ratio=2.0, file_bytes=2000) for name in fates}
    client, sampling, rows = ran(tuple(slow), slow, budget={"candidates": 60, "wall_minutes": 60},
                                 constraints={"latency_s": 1e-9})
    assert sampling.asked >= 60 and not any(p["recipe"] for p in client.of_kind("train"))


def test_sampling_uses_the_surrogate() -> None:
    spec = campaign()
    client, sampling = FakeCoordinator(spec.as_dict(), {}), Scripted("a")
    search = search_of(client, sampling, spec)
    search.run()
    known = Recipe((Step.of("a", "model", {}),))
    device, proposals = search._device, search._proposals
    assert proposals._gain_of_new(lambda recipe: 1.0, known) == -1.0, "nothing is built twice"
    twin = Recipe((*known.steps, Step.of("int8", "model", {})))
    acquisition = device._acquisition
    expected, cost = acquisition.expected(
        twin, {"macs": 1000, "file_bytes": 100, "latency_s": 1e-4})
    assert (expected.drop, expected.deviation) == (pytest.approx(0.01), 0.0), "trained already"
    assert cost == NO_COST_S
    mild, strong = (Recipe((Step.of("channel_pruning", "model", {"keep_ratio": ratio}),))
                    for ratio in (0.7, 0.05))
    small = {"macs": 100, "file_bytes": 50, "latency_s": 1e-4}
    for _ in range(4):
        acquisition.add_costs(strong, small)
    before = device.expected_gain(strong, [])
    assert before > device.expected_gain(mild, []) > 0, "the surrogate learns costs"
    values = {"macs": 900, "file_bytes": 900, "latency_s": 9e-4, "quality_drop": 0.05}
    for _ in range(4):
        acquisition.add_drop(strong, values, "full")
    assert device.expected_gain(strong, []) < 0.5 * before, "a previous loss lowers the gain"
