"""What a strategy is: a frozen dataclass of parameters and the one verb of its stage.

Stages run in the order ``(structure* weights* training?)+ encoding*``. A structure strategy
replaces layers, a weights strategy constrains weights by a parametrization, a training strategy
recovers accuracy and an encoding strategy rewrites the exported ONNX graph.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import onnx
from torch import Tensor, nn

from strategies.target import Target

Stage = Literal["structure", "weights", "training", "encoding"]


class StrategyError(Exception):
    """A strategy cannot be applied; ``reason`` is a short stable word (``unsupported_graph``,
    ``nothing_to_do``, ``impossible_order``, ``nan_loss``, ``unknown_strategy``, ...)."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Suggester(Protocol):
    """The part of an Optuna trial that a strategy may use; a dict can play it in tests.

    Names are relative (``keep_ratio``); the caller prefixes ``<group>.<strategy>.``. The meaning
    of a name never changes, and no choice list depends on catalog, layers or device.
    """

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...


@dataclass(frozen=True)
class Layer:
    """One weighted layer of the baseline; ``groups`` are the names a recipe may select it by."""

    name: str
    kind: Literal["convolution", "fully_connected"]
    weight_shape: tuple[int, ...]
    groups: frozenset[str]


@dataclass(frozen=True)
class Limits:
    """Bounds that a campaign puts on parameters, ``{"<strategy>.<parameter>": (low, high)}``."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def range(self, name: str, low: float, high: float) -> tuple[float, float]:
        """The intersection of (low, high) with the campaign's bounds for ``name``."""
        narrow_low, narrow_high = self.ranges.get(name, (low, high))
        return max(low, narrow_low), min(high, narrow_high)


class Batch(NamedTuple):
    """``key`` names the batch for caches: the same key always means the same tensors."""

    key: tuple[int, int]
    inputs: Tensor
    targets: Tensor


Teacher = Callable[[Batch], Tensor]


class TrainingData(Protocol):
    """What a training loop sees: never the test split."""

    loss: Callable[[Tensor, Tensor], Tensor]
    batches_per_epoch: int

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch; the order and augmentation depend on ``epoch`` only."""
        ...

    def validation_metric(self, model: nn.Module) -> float:
        """The task's metric of ``model`` on the validation split, higher is better."""
        ...


@dataclass(frozen=True)
class Fidelity:
    """How long to train: ``epochs`` counts from the start, so each continues the one before."""

    name: Literal["untrained", "short", "full", "extended"]
    epochs: int


TrainingState = dict[str, Any]
"""Epochs done, optimizer, random state; plain tensors and numbers (``torch.save``-able with
``weights_only=True``). The model's own weights are saved beside it."""


@runtime_checkable
class Strategy(Protocol):
    """Common to all stages. ``groups`` lists the layer groups on which a search may switch it on;
    ``requires`` is matched against the device's number formats."""

    name: ClassVar[str]
    stage: ClassVar[Stage]
    version: ClassVar[int]
    summary: ClassVar[str]
    paper: ClassVar[str]
    limits_text: ClassVar[str]
    requires: ClassVar[frozenset[str]]
    groups: ClassVar[tuple[str, ...]]

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> "Strategy":
        """Parameters from ``suggester``; parameter names equal the dataclass's field names."""
        ...


class StructureStrategy(Strategy, Protocol):
    def apply(self, model: nn.Module, layers: Sequence[str], example_input: Tensor) -> nn.Module:
        """A model with ``layers`` (module paths) replaced; ``model`` may be consumed.

        Raises StrategyError(``unsupported_graph`` | ``nothing_to_do``).
        """
        ...


class WeightsStrategy(Strategy, Protocol):
    def attach(self, model: nn.Module, layers: Sequence[str], int8_follows: bool) -> None:
        """Put a parametrization on the weight of each of ``layers``, fully in force at once."""
        ...


class TrainingStrategy(Strategy, Protocol):
    def train(
        self,
        model: nn.Module,
        teacher: Teacher | None,
        data: TrainingData,
        fidelity: Fidelity,
        state: TrainingState | None,
    ) -> tuple[nn.Module, TrainingState]:
        """Train until ``fidelity.epochs``, from ``state`` if given. Calls ``advance(progress)``
        of every parametrization that has it, at each step. Raises StrategyError(``nan_loss``)."""
        ...


class EncodingStrategy(Strategy, Protocol):
    def encode(
        self, graph: onnx.ModelProto, calibration: Tensor, target: Target, folder: Path
    ) -> onnx.ModelProto:
        """The graph rewritten for ``target``; ``calibration`` is (n, *input shape) of training
        inputs, ``folder`` a scratch folder."""
        ...


def within(name: str, parameter: str, value: float, low: float, high: float) -> None:
    """Raises StrategyError(``bad_parameters``) unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise StrategyError(f"{name}: {parameter} = {value!r} must be from {low:g} to {high:g}.",
                            "bad_parameters")
