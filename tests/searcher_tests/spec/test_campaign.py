import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from searcher.errors import UserError
from searcher.spec.campaign import Budget, Campaign, from_document, load, same_request
from searcher.spec.measurement_plan import PLANS

MINIMAL = {"name": "digits", "task": "lenet5-mnist"}
FULL: dict[str, Any] = {
    "name": "digits-2.b_1", "task": "pkg.module:factory", "seed": 3, "builders": 2,
    "budget": {"candidates": 7, "wall_minutes": 0.5},
    "objectives": {"accuracy": "maximize", "file_bytes": "minimize"},
    "constraints": {"accuracy_drop": 0.01, "file_bytes": 50_000},
    "measurement": {"plan": {"min_blocks": 12}},
    "devices": [{"profile": "local_cpu"}],
    "search": {"sampler": "random", "strategies": ["svd", "int8"],
               "limits": {"svd.rank_ratio": [0.1, 0.2]}},
}


def refused(document: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        from_document(document)
    return str(caught.value)


def test_defaults() -> None:
    campaign = from_document(MINIMAL)
    assert (campaign.seed, campaign.builders, campaign.devices) == (0, 0, ("local_cpu",))
    assert (campaign.budget.candidates, campaign.budget.wall_minutes) == (60, 10.0)
    assert [(o.name, o.direction) for o in campaign.objectives] == [
        ("quality", "best"), ("latency_s", "minimize"), ("file_bytes", "minimize")]
    assert [o.role for o in campaign.objectives] == ["quality", "cost", "cost"]
    assert campaign.plan == PLANS["quick"] and campaign.constraints == {}
    assert (campaign.search.sampler, campaign.search.strategies) == ("tpe", ())


def test_everything_given() -> None:
    campaign = from_document(FULL)
    assert campaign.name == "digits-2.b_1" and campaign.plan.min_blocks == 12
    assert campaign.search.limits == {"svd.rank_ratio": (0.1, 0.2)}
    assert campaign.constraints == {"quality_drop": 0.01, "file_bytes": 50_000}
    assert from_document({**FULL, "constraints": {
        "quality_drop": 0.01, "file_bytes": 50_000}}) == campaign, "another name of the same"


def test_a_device_by_the_name_under_which_it_is_enrolled() -> None:
    campaign = from_document({**MINIMAL, "devices": [{"name": "tx2-1"}, {"profile": "local_cpu"}]})
    assert (campaign.devices, campaign.named) == (("tx2-1", "local_cpu"), {"tx2-1"})
    assert campaign.as_dict()["devices"] == [{"name": "tx2-1"}, {"profile": "local_cpu"}]


@pytest.mark.parametrize("document", [MINIMAL, FULL, {**MINIMAL, "devices": [{"name": "tx2-1"}]}])
def test_the_ledgers_document_reads_back(document: dict[str, Any]) -> None:
    campaign = from_document(document)
    again: Campaign = from_document(json.loads(json.dumps(campaign.as_dict())))
    assert again == campaign and again.as_dict() == campaign.as_dict()


@pytest.mark.parametrize(("place", "key", "nearest"), [
    ((), "sed", "Unknown key 'sed' in the campaign. Did you mean 'seed'?"),
    (("budget",), "candidate", "in [budget]. Did you mean 'candidates'?"),
    (("measurement",), "plans", "in [measurement]. Did you mean 'plan'?"),
    (("measurement", "plan"), "min_bloks", "Did you mean 'min_blocks'?"),
    (("search",), "samplers", "in [search]. Did you mean 'sampler'?"),
    (("devices", 0), "profil", "in [[devices]]. Did you mean 'profile'?"),
    (("devices", 0), "names", "in [[devices]]. Did you mean 'name'?"),
    (("objectives",), "latency", "Unknown objective 'latency'. Did you mean 'latency_s'?"),
    (("constraints",), "acuracy_drop", "Did you mean 'accuracy_drop'?"),
])
def test_an_unknown_key_names_the_nearest(place: tuple[Any, ...], key: str, nearest: str) -> None:
    document = json.loads(json.dumps(FULL))
    table = document
    for step in place:
        table = table[step]
    table[key] = "minimize"
    message = refused(document)
    assert repr(key) in message and nearest in message


@pytest.mark.parametrize(("change", "said"), [
    ({"name": ""}, "name must be a non-empty text"),
    ({"name": 3}, "name must be a non-empty text, got 3"),
    ({"name": "a/b"}, "name = 'a/b'"),
    ({"name": ".."}, "name = '..'"),
    ({"name": "x" * 81}, "at most 80"),
    ({"task": None}, "task must be a non-empty text"),
    ({"seed": -1}, "seed = -1 must be a whole number from 0"),
    ({"seed": 1.5}, "seed = 1.5 must be a whole number"),
    ({"seed": True}, "seed = True"),
    ({"builders": 1000}, "builders = 1000"),
    ({"budget": 60}, "[budget] must be a table, got 60"),
    ({"budget": {"candidates": 0}}, "candidates = 0 must be a whole number from 1"),
    ({"budget": {"candidates": "many"}}, "candidates = 'many'"),
    ({"budget": {"wall_minutes": float("nan")}}, "wall_minutes = nan"),
    ({"budget": {"total_minutes": 0}}, "total_minutes = 0"),
    ({"objectives": {"accuracy": "maximize"}}, "at least one of latency_s, file_bytes"),
    ({"objectives": {"latency_s": "minimize", "file_bytes": "minimize"}}, "needs quality"),
    ({"objectives": {"accuracy": "maximize", "latency_s": 1}}, "latency_s = '1' must be minimize"),
    ({"objectives": {"accuracy": "maximize", "throughput_per_s": "maximize"}},
     "'throughput_per_s' cannot be measured"),
    ({"objectives": {"accuracy": "maximize", "energy_j": "minimize"}},
     "energy_j needs a plan with energy_s > 0"),
    ({"objectives": {"accuracy": "maximize", "energy_j": "minimize"},
      "measurement": {"plan": {"energy_s": 20}}}, "a plan with idle_s > 0"),
    ({"objectives": {"accuracy": "maximize", "f1_macro": "maximize", "latency_s": "minimize"}},
     "2 qualities: accuracy, f1_macro"),
    ({"objectives": {"quality": "up", "latency_s": "minimize"}},
     "quality = 'up' must be minimize, maximize or best"),
    ({"objectives": {"accuracy": "best", "latency_s": "minimize"}},
     "accuracy = 'best' must be minimize or maximize"),
    ({"objectives": {"qualty": "best", "latency_s": "minimize"}}, "Did you mean 'quality'?"),
    ({"objectives": {"accuracy_drop": "minimize", "latency_s": "minimize"}},
     "'accuracy_drop' cannot be an objective"),
    ({"constraints": {"accuracy_drop": 0.1, "quality_drop": 0.1}},
     "'accuracy_drop' is another name of 'quality_drop'"),
    ({"constraints": {"accuracy_test_drop": 0.1}}, "Unknown constraint 'accuracy_test_drop'"),
    ({"constraints": {"accuracy_drop": "1 %"}}, "accuracy_drop = '1 %' must be a number"),
    ({"constraints": {"latency_s": -1}}, "latency_s = -1"),
    ({"constraints": []}, "[constraints] must be a table"),
    ({"measurement": {"plan": 3}}, "plan = 3 must be a name or a table"),
    ({"measurement": {"plan": "slow"}}, "Unknown measurement plan 'slow'"),
    ({"devices": []}, "[[devices]] must be a list of tables"),
    ({"devices": "local_cpu"}, "got 'local_cpu'"),
    ({"devices": ["local_cpu"]}, "[[devices]] must hold tables"),
    ({"devices": [{}]}, "profile must be a non-empty text"),
    ({"devices": [{"name": "tx2-1", "profile": "local_cpu"}]}, "not both"),
    ({"devices": [{"name": 2}]}, "name must be a non-empty text"),
    ({"search": {"sampler": "tpf"}}, "Did you mean 'tpe'?"),
    ({"search": {"sampler": 3}}, "sampler = 3"),
    ({"search": {"repair": "no"}}, "repair = 'no' must be true or false"),
    ({"search": {"repair": False, "train": False}}, "without a quality"),
    ({"search": {"strategies": "svd"}}, "strategies = 'svd' must be a list"),
    ({"search": {"strategies": ["svd", 3]}}, "must be a list of names"),
    ({"search": {"strategies": ["svd", "svd"]}}, "has a duplicate"),
    ({"search": {"limits": []}}, "[search.limits] must be a table"),
    ({"search": {"limits": {"svd.rank_ratio": 0.1}}}, "svd.rank_ratio = 0.1 must be [low, high]"),
    ({"search": {"limits": {"svd.rank_ratio": [0.3, 0.1]}}}, "[0.3, 0.1]"),
    ({"search": {"limits": {"svd.rank_ratio": [True, 1]}}}, "must be [low, high]"),
])
def test_a_wrong_value_is_named(change: dict[str, Any], said: str) -> None:
    assert said in refused({**MINIMAL, **change})


def test_what_cannot_be_measured_here_is_not_offered_again() -> None:
    message = refused({**MINIMAL, "constraints": {"memory_bytes": 1e6}})
    assert "memory_bytes" in message and "Did you mean 'memory_bytes'" not in message


METRICS = ("accuracy", "accuracy_top5", "binary_accuracy", "balanced_accuracy", "f1_macro",
           "mean_iou", "mean_iou(ignore_index=255)", "agreement", "output_cosine",
           "kl_divergence", "torchmetrics.MeanAbsoluteError", "package.module:AngleError")


@pytest.mark.parametrize("metric", METRICS)
def test_any_metric_may_be_the_quality(metric: str) -> None:
    campaign = from_document({**MINIMAL, "objectives": {
        "latency_s": "minimize", metric: "minimize"}})
    assert [(o.name, o.role) for o in campaign.objectives] == [
        (metric, "quality"), ("latency_s", "cost")]


@pytest.mark.parametrize("word", ["latency", "latencys", "file_byte", "energy", "memory", "power"])
def test_a_misspelt_cost_is_no_metric(word: str) -> None:
    said = refused({**MINIMAL, "objectives": {"quality": "best", word: "minimize"}})
    assert f"Unknown objective {word!r}. Did you mean '{word[:4]}" in said


def test_requests_are_the_same_however_they_name_the_metric() -> None:
    """An older version stored accuracy where the file left the objectives out."""
    def asking(**changes: Any) -> Campaign:
        return from_document({**MINIMAL, **changes})

    costs = {"latency_s": "minimize", "file_bytes": "minimize"}
    plain = asking(constraints={"quality_drop": 0.01})
    stored = asking(objectives={"accuracy": "maximize", **costs},
                    constraints={"accuracy_drop": 0.01})
    assert plain != stored and same_request(plain, stored) and same_request(stored, plain)
    assert not same_request(asking(), stored), "another constraint"
    named = asking(objectives={"accuracy": "maximize", **costs})
    for other in ({"f1_macro": "maximize", **costs}, {"accuracy": "minimize", **costs},
                  {"quality": "minimize", **costs}, {"accuracy": "maximize", **costs,
                                                     "energy_j": "minimize"}):
        plan = {"plan": {"energy_s": 20, "idle_s": 5}}
        assert not same_request(named, asking(objectives=other, measurement=plan))


def test_the_order_of_the_objectives_survives_the_ledger() -> None:
    from searcher.ledger.rows import text

    campaign = from_document(MINIMAL)
    assert from_document(json.loads(text(campaign.as_dict()))) == campaign


def test_a_file_is_named_in_the_message(tmp_path: Path) -> None:
    file = tmp_path / "campaign.toml"
    file.write_text(tomli_w.dumps(FULL))
    assert load(file) == from_document(FULL)
    for content in (tomli_w.dumps({**MINIMAL, "sed": 1}), "name = ", "\udcff"):
        file.write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match="campaign.toml"):
            load(file)
    with pytest.raises(UserError, match=r"no campaign file .*absent\.toml"):
        load(tmp_path / "absent.toml")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("file", sorted(Path("examples").glob("*.toml")), ids=lambda f: f.stem)
def test_the_examples_are_right(file: Path) -> None:
    from searcher.local.run import check_before_start
    from searcher.tasks.catalog import TASKS

    campaign = load(file)
    check_before_start(campaign)
    assert campaign.task in TASKS or campaign.task in (
        f"examples.{file.stem}:task", f"benchmarks.networks.tasks:{file.stem}")


def test_parts_of_the_search_can_be_switched_off() -> None:
    plain = from_document(MINIMAL)
    assert plain.search.repair and plain.search.train and plain.search.scan
    off = from_document({**MINIMAL, "search": {"train": False, "scan": False}})
    assert not off.search.train and not off.search.scan and off.search.warm_starts
    assert from_document(off.as_dict()) == off and not same_request(plain, off)
    assert from_document(plain.as_dict()) == plain


def test_what_a_budget_leaves_for_the_search() -> None:
    assert Budget(wall_minutes=2).search_s(baseline_s=50) == 120
    both = Budget(wall_minutes=2, total_minutes=2.5)
    assert [both.search_s(s) for s in (10, 50, 200)] == [120, 100, 0]


def test_a_budget_without_a_bound_for_all_is_written_without_it() -> None:
    document = from_document({"name": "c", "task": "t"}).as_dict()
    assert "total_minutes" not in document["budget"]
    both = from_document({"name": "c", "task": "t", "budget": {"total_minutes": 3}})
    assert from_document(both.as_dict()).budget == both.budget == Budget(total_minutes=3.0)
