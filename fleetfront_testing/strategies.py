"""What every strategy promises, whatever its stage."""

import copy
import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from fleetfront_testing.networks import EXAMPLE, Noise, Residual, equal_states, plain
from strategies.base import (
    STAGES,
    EncodingStrategy,
    Fidelity,
    Limits,
    Strategy,
    StructureStrategy,
    TrainingStrategy,
    WeightsStrategy,
)
from strategies.encoding.export import export_onnx
from strategies.encoding.finish import finish
from strategies.encoding.gates import load
from strategies.layers import layers_of, select
from strategies.number_formats import FLOAT32
from strategies.pipeline import check, instantiate
from strategies.target import Target

Result = nn.Module | onnx.ModelProto
NETWORKS = pytest.mark.parametrize("make", [plain, Residual], ids=["plain", "residual"])


class Suggesting(dict[str, float]):
    """Plays the suggester: a requested value is ``share`` of the way through its range, on a
    logarithmic scale where the range is."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.ranges: dict[str, tuple[float, float]] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        value = low * (high / low) ** self.share if log else low + (high - low) * self.share
        return self._note(name, low, high, min(max(value, low), high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._note(name, low, high, round(low + (high - low) * self.share)))

    def _note(self, name: str, low: float, high: float, value: float) -> float:
        assert low <= high and name not in self
        self[name], self.ranges[name] = value, (low, high)
        return value


def suggested(cls: type[Strategy], share: float = 0.4,
              limits: Limits | None = None) -> tuple[Strategy, Suggesting]:
    """A strategy, and what it asked the suggester for."""
    suggester = Suggesting(share)
    return cls.suggest(suggester, layers_of(plain()), limits or Limits()), suggester


def exercised(strategy: Strategy, model: nn.Module, folder: Path) -> Result:
    """What the verb of the strategy's stage makes of ``model``, on every group it is for."""
    if isinstance(strategy, StructureStrategy):
        return strategy.apply(model, chosen(strategy, model), (EXAMPLE[:1],))
    if isinstance(strategy, WeightsStrategy):
        strategy.attach(model, chosen(strategy, model), FLOAT32)
        return model
    if isinstance(strategy, TrainingStrategy):
        return strategy.train(model, lambda batch: batch.inputs[0].flatten(1)[:, :10], Noise(3),
                              Fidelity("short", 1), None)[0]
    assert isinstance(strategy, EncodingStrategy)
    graph = export_onnx(model, (EXAMPLE[:1],), Target())
    before = graph.SerializeToString()
    calibration = torch.rand(32, *EXAMPLE.shape[1:], generator=torch.Generator().manual_seed(5))
    coded = strategy.encode(graph, (calibration,), Target(), folder)
    assert graph.SerializeToString() == before, "encode changed its input"
    return coded


def chosen(strategy: Strategy, model: nn.Module) -> list[str]:
    names = [select(layers_of(model), group) for group in strategy.groups]
    return list(dict.fromkeys(name for group in names for name in group))


def outputs(result: Result) -> Tensor:
    """Of the two example inputs, (2, 10)."""
    if isinstance(result, nn.Module):
        with torch.no_grad():
            found: Tensor = result.eval()(EXAMPLE)
        return found
    name = result.graph.input[0].name
    (computed,) = load(result.SerializeToString()).run({name: EXAMPLE.numpy()})
    return torch.from_numpy(computed)


def size(result: Result) -> int:
    """Parameters after a structure strategy; bytes of the finished file after the others."""
    graph = (export_onnx(result, (EXAMPLE[:1],), Target()) if isinstance(result, nn.Module)
             else result)
    return len(finish(graph, Target()).content)


class StrategyContract:
    """Subclass it with a fixture or parameter ``implementation``: the class of a strategy."""

    def test_it_states_what_it_is(self, implementation: type[Strategy]) -> None:
        cls = implementation
        assert STAGES[cls.stage] in cls.__mro__, "it subclasses its stage"
        assert dataclasses.is_dataclass(cls) and not inspect.isabstract(cls)
        with pytest.raises(dataclasses.FrozenInstanceError):
            suggested(cls)[0].name = "another"  # type: ignore[misc]
        assert cls.version >= 1 and cls.groups
        assert all(text.strip() for text in (cls.name, cls.summary, cls.paper, cls.limits_text))
        assert any(character.isdigit() for character in cls.paper), "the paper's year"
        assert isinstance(cls.requires, frozenset) and inspect.getdoc(cls)
        assert cls.number_format is None or cls.number_format in cls.requires

    @pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
    def test_suggestions_are_valid_instances_of_its_fields(
            self, implementation: type[Strategy], share: float) -> None:
        strategy, suggester = suggested(implementation, share)
        fields = {field.name for field in dataclasses.fields(implementation)}
        assert set(suggester) <= fields
        assert {name: getattr(strategy, name) for name in suggester} == dict(suggester)
        step = {"strategy": implementation.name, "layers": "model", **dataclasses.asdict(strategy)}
        check([step])
        assert instantiate(step) == strategy

    def test_equal_suggestions_give_equal_instances(self, implementation: type[Strategy]) -> None:
        assert suggested(implementation)[0] == suggested(implementation)[0]
        assert hash(suggested(implementation)[0]) == hash(suggested(implementation)[0])

    def test_a_campaigns_limits_narrow_the_ranges(self, implementation: type[Strategy]) -> None:
        for name, (low, high) in suggested(implementation)[1].ranges.items():
            middle = round((low + high) / 2) if isinstance(low, int) else (low + high) / 2
            limits = Limits({f"{implementation.name}.{name}": (middle, high)})
            narrowed = suggested(implementation, 0.0, limits)[1]
            assert narrowed[name] == pytest.approx(middle)

    @NETWORKS
    def test_it_works_twice_alike_and_leaves_the_original(
            self, implementation: type[Strategy], make: Callable[[], nn.Module],
            tmp_path: Path) -> None:
        strategy, original = suggested(implementation)[0], make()
        one, two = (exercised(strategy, copy.deepcopy(original), tmp_path) for _ in range(2))
        assert equal_states(original, make()), "the original changed through its copy"
        found = outputs(one)
        assert found.shape == (2, 10) and bool(found.isfinite().all())
        assert torch.equal(found, outputs(two))
        if isinstance(one, nn.Module) and isinstance(two, nn.Module):
            assert equal_states(one, two)
        else:
            assert isinstance(one, onnx.ModelProto) and isinstance(two, onnx.ModelProto)
            assert one.SerializeToString() == two.SerializeToString()

    @NETWORKS
    def test_it_has_an_effect(self, implementation: type[Strategy],
                              make: Callable[[], nn.Module], tmp_path: Path) -> None:
        result = exercised(suggested(implementation)[0], make(), tmp_path)
        assert not torch.equal(outputs(result), outputs(make()))

    @NETWORKS
    def test_the_low_end_is_the_strong_end(self, implementation: type[Strategy],
                                           make: Callable[[], nn.Module], tmp_path: Path) -> None:
        """Training does not compress: of it nothing is asked."""
        strong, mild = (exercised(suggested(implementation, share)[0], make(), tmp_path)
                        for share in (0.0, 1.0))
        if not issubclass(implementation, TrainingStrategy):
            assert size(strong) <= size(mild)

    @NETWORKS
    def test_its_result_can_be_exported(self, implementation: type[Strategy],
                                        make: Callable[[], nn.Module], tmp_path: Path) -> None:
        result = exercised(suggested(implementation)[0], make(), tmp_path)
        if isinstance(result, nn.Module):
            graph = export_onnx(result, (EXAMPLE[:1],), Target())
            torch.testing.assert_close(outputs(graph), outputs(result), rtol=1e-4, atol=1e-5)
