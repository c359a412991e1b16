import subprocess
import sys

import pytest

from strategies import catalog
from strategies.base import StrategyError
from strategies.pipeline import check, instantiate
from strategies.structure.channel_pruning import ChannelPruning
from strategies.training.finetune import Finetune

STEPS = {
    "s": {"strategy": "channel_pruning", "layers": "convolutions", "keep_ratio": 0.5},
    "w": {"strategy": "clustering", "layers": "model", "bits": 4},
    "t": {"strategy": "finetune", "layers": "model", "learning_rate": 1e-3},
    "e": {"strategy": "int8", "layers": "model"},
}


def steps(word):
    return [dict(STEPS[letter]) for letter in word]


@pytest.mark.parametrize("word", [
    "", "s", "w", "t", "e", "ss", "swte", "sstwwtee", "ststwt", "wtwt", "tte", "ste", "we"])
def test_possible_orders(word):
    check(steps(word))


@pytest.mark.parametrize("word, reason", [
    ("ws", "structure"), ("wts", "structure"), ("swtse", "structure"), ("es", "encoding"),
    ("ew", "encoding"), ("et", "encoding"), ("stet", "encoding")])
def test_impossible_orders_are_refused_with_the_reason(word, reason):
    with pytest.raises(StrategyError, match=reason) as caught:
        check(steps(word))
    assert caught.value.reason == "impossible_order"


def test_a_step_becomes_its_strategy():
    assert instantiate(STEPS["s"]) == ChannelPruning(0.5)
    assert instantiate({"strategy": "finetune", "learning_rate": 1}) == Finetune(1.0)


@pytest.mark.parametrize("step, message, reason", [
    ({"strategy": "chanel_pruning"}, "Did you mean 'channel_pruning'", "unknown_strategy"),
    ({"strategy": "clustering", "bit": 4}, "Did you mean 'bits'", "bad_parameters"),
    ({"strategy": "clustering", "bits": 4.5}, "4.5 must be a int", "bad_parameters"),
    ({"strategy": "clustering", "bits": True}, "True must be a int", "bad_parameters"),
    ({"strategy": "clustering", "bits": "4"}, "must be a int", "bad_parameters"),
    ({"strategy": "clustering", "bits": 12}, "12 must be from 1 to 8", "bad_parameters"),
    ({"strategy": "clustering"}, "needs bits", "bad_parameters"),
    ({"strategy": "svd", "rank_ratio": float("nan")}, "nan must be", "bad_parameters"),
    ({"strategy": "svd", "rank_ratio": True}, "must be a float", "bad_parameters"),
    ({"strategy": "int8", "bits": 4}, "no parameter 'bits'", "bad_parameters"),
    ({"strategy": "finetune", "layers": "first", "learning_rate": 1e-3}, "whole model",
     "bad_parameters"),
])
def test_a_bad_step_is_refused_with_the_value(step, message, reason):
    with pytest.raises(StrategyError, match=message) as caught:
        check([step])
    assert caught.value.reason == reason


def test_the_catalog_knows_its_strategies():
    found = catalog.all_strategies()
    assert tuple(cls.name for cls in found) == catalog.names()
    assert {"channel_pruning", "tucker", "svd", "magnitude_pruning", "clustering", "finetune",
            "knowledge_distillation", "int8"} <= set(catalog.names())


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(catalog.UnknownStrategyError, match="'tucker'"):
        catalog.strategy("tuker")


def test_a_name_registered_twice_is_loud(monkeypatch):
    monkeypatch.setattr(catalog, "MODULES", (*catalog.MODULES, catalog.MODULES[0]))
    with pytest.raises(RuntimeError, match="channel_pruning.*twice"):
        catalog.names()


def test_a_class_under_another_name_is_loud(monkeypatch):
    monkeypatch.setattr(catalog, "MODULES", (
        ("low_rank", "strategies.structure.svd", "Svd"),))
    with pytest.raises(RuntimeError, match="low_rank"):
        catalog.strategy("low_rank")


def test_the_catalog_is_quick_to_import():
    script = ("import sys, strategies.catalog as c; c.names(); "
              "sys.exit(bool({'torch', 'onnx', 'tensorly'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
