"""What every strategy of the catalog promises, whatever its stage."""

import copy
import dataclasses
import inspect

import pytest
import torch

from strategies.base import Fidelity, Limits, Strategy
from strategies.catalog import all_strategies
from strategies.encoding.export import export_onnx
from strategies.encoding.gates import load
from strategies.layers import layers_of, select
from strategies.pipeline import check, instantiate
from strategies.target import Target
from tests.strategies_tests.training.toy import EXAMPLE, Noise, Residual, equal_states, plain

STRATEGIES = pytest.mark.parametrize("cls", all_strategies(), ids=lambda cls: cls.name)
NETS = pytest.mark.parametrize("make", [plain, Residual], ids=["plain", "residual"])


class Suggesting(dict):
    """Plays the suggester: a value that is asked for is ``share`` of the way through its range."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.ranges: dict[str, tuple[float, float]] = {}

    def suggest_float(self, name, low, high, *, log=False):
        value = low * (high / low) ** self.share if log else low + (high - low) * self.share
        return self._note(name, low, high, min(max(value, low), high))

    def suggest_int(self, name, low, high, *, log=False):
        return self._note(name, low, high, round(low + (high - low) * self.share))

    def _note(self, name, low, high, value):
        assert low <= high and name not in self
        self[name], self.ranges[name] = value, (low, high)
        return value


def suggested(cls, share=0.4, limits=None):
    suggester = Suggesting(share)
    return cls.suggest(suggester, layers_of(plain()), limits or Limits()), suggester


def structure(strategy, model, folder):
    return strategy.apply(model, chosen(strategy, model), EXAMPLE[:1])


def weights(strategy, model, folder):
    strategy.attach(model, chosen(strategy, model), number_format="float32")
    return model


def training(strategy, model, folder):
    return strategy.train(model, lambda batch: batch.inputs.flatten(1)[:, :10], Noise(3),
                          Fidelity("short", 1), None)[0]


def encoding(strategy, model, folder):
    graph = export_onnx(model, EXAMPLE[:1], Target())
    before = graph.SerializeToString()
    coded = strategy.encode(graph, torch.rand(
        32, *EXAMPLE.shape[1:], generator=torch.Generator().manual_seed(5)), Target(), folder)
    assert graph.SerializeToString() == before, "encode changed its input"
    return coded


EXERCISE = {"structure": structure, "weights": weights, "training": training,
            "encoding": encoding}


def chosen(strategy, model):
    names = [select(layers_of(model), group) for group in strategy.groups]
    return list(dict.fromkeys(name for group in names for name in group))


def outputs(result):
    if isinstance(result, torch.nn.Module):
        with torch.no_grad():
            return result.eval()(EXAMPLE)
    (found,) = load(result.SerializeToString()).run({"input": EXAMPLE.numpy()})
    return torch.from_numpy(found)


@STRATEGIES
def test_it_says_what_it_is(cls):
    assert issubclass(cls, object) and dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert cls.stage in EXERCISE and cls.version >= 1 and cls.groups
    assert all(getattr(cls, text).strip() for text in ("name", "summary", "paper", "limits_text"))
    assert any(character.isdigit() for character in cls.paper), "the paper's year"
    assert isinstance(cls.requires, frozenset) and inspect.getdoc(cls)
    assert isinstance(suggested(cls)[0], Strategy)


@STRATEGIES
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_what_is_suggested_is_a_valid_instance_of_its_fields(cls, share):
    strategy, asked = suggested(cls, share)
    fields = {field.name for field in dataclasses.fields(cls)}
    assert set(asked) <= fields
    assert {name: getattr(strategy, name) for name in asked} == dict(asked)
    step = {"strategy": cls.name, "layers": "model", **dataclasses.asdict(strategy)}
    check([step])
    assert instantiate(step) == strategy


@STRATEGIES
def test_the_same_suggestions_give_the_same_instance(cls):
    assert suggested(cls)[0] == suggested(cls)[0]
    assert hash(suggested(cls)[0]) == hash(suggested(cls)[0])


@STRATEGIES
def test_a_campaigns_limits_narrow_the_ranges(cls):
    for name, (low, high) in suggested(cls)[1].ranges.items():
        middle = round((low + high) / 2) if isinstance(low, int) else (low + high) / 2
        limits = Limits({f"{cls.name}.{name}": (middle, high)})
        assert suggested(cls, 0.0, limits)[1][name] == pytest.approx(middle)


@STRATEGIES
@NETS
def test_it_works_twice_alike_and_leaves_the_original(cls, make, tmp_path):
    strategy, original = suggested(cls)[0], make()
    exercise = EXERCISE[cls.stage]
    one, two = (exercise(strategy, copy.deepcopy(original), tmp_path) for _ in range(2))
    assert equal_states(original, make()), "the original changed through its copy"
    found = outputs(one)
    assert found.shape == (2, 10) and bool(found.isfinite().all())
    assert torch.equal(found, outputs(two))
    if isinstance(one, torch.nn.Module):
        assert equal_states(one, two)
    else:
        assert one.SerializeToString() == two.SerializeToString()


@STRATEGIES
@NETS
def test_it_does_something(cls, make, tmp_path):
    result = EXERCISE[cls.stage](suggested(cls)[0], make(), tmp_path)
    assert not torch.equal(outputs(result), outputs(make()))


@pytest.mark.parametrize("cls", [c for c in all_strategies() if c.stage != "encoding"],
                         ids=lambda cls: cls.name)
@NETS
def test_what_it_leaves_can_be_exported(cls, make, tmp_path):
    model = EXERCISE[cls.stage](suggested(cls)[0], make(), tmp_path)
    graph = export_onnx(model, EXAMPLE[:1], Target())
    torch.testing.assert_close(outputs(graph), outputs(model), rtol=1e-4, atol=1e-5)
