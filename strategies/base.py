"""What a strategy is: a frozen dataclass of parameters and the one verb of its stage.

Stages run in the order ``(structure* weights* training?)+ encoding*``, each with an abstract base
class: a structure strategy replaces layers, a weights strategy constrains weights by a
parametrization, a training strategy recovers accuracy and an encoding strategy rewrites the
exported ONNX graph.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, TypedDict

import onnx
from torch import Tensor, nn

from strategies.target import Target

FidelityName = Literal["untrained", "repaired", "short", "full", "extended"]
Strength = float | Mapping[str, float]
"""A number for all layers of a step, or one for each layer by its name."""
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
    """One weighted layer of the baseline; ``groups`` are the names a recipe may select it by,
    ``output`` says that the model's outputs are its channels."""

    name: str
    kind: Literal["convolution", "fully_connected"]
    weight_shape: tuple[int, ...]
    groups: frozenset[str]
    output: bool = False


@dataclass(frozen=True)
class Limits:
    """Bounds that a campaign puts on parameters, ``{"<strategy>.<parameter>": (low, high)}``."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def range(self, name: str, low: float, high: float) -> tuple[float, float]:
        """The intersection of (low, high) with the campaign's bounds for ``name``."""
        narrow_low, narrow_high = self.ranges.get(name, (low, high))
        return max(low, narrow_low), min(high, narrow_high)


class Batch(NamedTuple):
    """``key`` names the batch for caches: the same key always means the same tensors. ``inputs``
    are the positional arguments of the model, (n, ...) each; ``targets`` is a tensor or a
    structure of tensors, as the loss takes it."""

    key: tuple[int, int]
    inputs: tuple[Tensor, ...]
    targets: Any


Answer = Literal["classes", "logit", "values"]
"""Outputs that are logits with the classes on axis 1, one logit for two classes, or numbers."""

Teacher = Callable[[Batch], Tensor]


class TrainingData(Protocol):
    """What a training loop sees: never the test split."""

    batches_per_epoch: int
    answer: Answer
    """What the main output holds."""

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The task's loss of what a model returns, and the targets of a batch."""
        ...

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch; the order and augmentation depend on ``epoch`` only."""
        ...

    def main_output(self, outputs: Any) -> Tensor:
        """The tensor that the metric judges, of what a model returns."""
        ...

    def validation_metric(self, model: nn.Module) -> float:
        """The task's metric of ``model`` on the validation split, higher is better."""
        ...


@dataclass(frozen=True)
class Fidelity:
    """How long to train: ``epochs`` counts from the start, so each continues the one before."""

    name: FidelityName
    epochs: int


class TrainingState(TypedDict):
    """What a training continues from, beside the model's weights: plain tensors and numbers, which
    ``torch.save`` stores so that ``torch.load(weights_only=True)`` reads them."""

    epoch: int
    """Epochs done."""
    optimizer: dict[str, object]
    rng: Tensor


@dataclass(frozen=True)
class Strategy(ABC):
    """Parameters of one step; a concrete strategy is a frozen dataclass and subclasses one of the
    four stages below, which sets ``stage``.

    Every class states ``name`` (in recipes), ``version`` (raised when the same parameters give
    another result), ``summary``, ``paper`` and ``limits_text`` for people, ``requires`` (number
    formats that a device must compute with), ``groups`` (layer groups for which a search may
    choose it) and ``number_format`` (what the exported file computes with after this step, None
    where the step does not change that).

    The low end of every searched number is the strong end: it compresses most. A search relies on
    it to order recipes by strength.
    """

    name: ClassVar[str]
    stage: ClassVar[Stage]
    version: ClassVar[int]
    summary: ClassVar[str]
    paper: ClassVar[str]
    limits_text: ClassVar[str]
    requires: ClassVar[frozenset[str]]
    groups: ClassVar[tuple[str, ...]]
    number_format: ClassVar[str | None] = None
    by_layer: ClassVar[Mapping[str, type[int] | type[float]]] = {}
    """The parameters that may be a table with a number for each layer, and the type of it."""
    levels: ClassVar[tuple[float, ...]] = ()
    """The numbers of the first of ``by_layer`` at which a scan looks, ascending: the strong end
    first, last the one that changes little or nothing."""

    def of_layer(self, layer: str) -> Self:
        """This strategy with the numbers of ``layer`` in place of tables; parts that stand in the
        place of a layer have its numbers. Raises StrategyError(``unknown_layers``) for a layer
        that a table lacks."""
        own: dict[str, float] = {}
        for name in self.by_layer:
            table = getattr(self, name)
            if isinstance(table, Mapping):
                key = within_layers(layer, table)
                if key is None:
                    raise StrategyError(f"{self.name}: {name} has no number for layer {layer!r}, "
                                        f"only for {', '.join(table)}.", "unknown_layers")
                own[name] = table[key]
        return replace(self, **own) if own else self

    def changes(self, layer: Layer) -> bool:
        """Whether this step may change ``layer``, as far as its shape tells."""
        return True

    @property
    def tabled_layers(self) -> frozenset[str] | None:
        """The layers that every table has, None where there is no table."""
        tables = [set(table) for table in (getattr(self, name) for name in self.by_layer)
                  if isinstance(table, Mapping)]
        return frozenset(set.intersection(*tables)) if tables else None

    @classmethod
    @abstractmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        """Parameters from ``suggester``; parameter names equal the dataclass's field names and
        ranges are narrowed by ``limits``."""


@dataclass(frozen=True)
class Restructured:
    """What a structure strategy made. ``kept`` holds, by path, the output channels that layers of
    the model before still have, in order; a layer that is absent has all. ``left`` says of layers
    that were left alone why, by path."""

    model: nn.Module
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StructureStrategy(Strategy):
    """Replaces layers."""

    stage: ClassVar[Stage] = "structure"

    @abstractmethod
    def apply(self, model: nn.Module, layers: Sequence[str],
              example_inputs: tuple[Tensor, ...]) -> nn.Module:
        """A model with ``layers`` (module paths) replaced; ``model`` may be consumed.
        ``example_inputs`` has one tensor (1, *shape) for each input of ``model``.

        Raises StrategyError(``unsupported_graph`` | ``nothing_to_do``).
        """

    def restructure(self, model: nn.Module, layers: Sequence[str],
                    example_inputs: tuple[Tensor, ...]) -> Restructured:
        """As ``apply``, with what is known of the result."""
        return Restructured(self.apply(model, layers, example_inputs))


@dataclass(frozen=True)
class WeightsStrategy(Strategy):
    """Constrains weights while they are trained."""

    stage: ClassVar[Stage] = "weights"

    @abstractmethod
    def attach(self, model: nn.Module, layers: Sequence[str], number_format: str) -> None:
        """Put a parametrization on the weight of each of ``layers``, in force at once.
        ``number_format`` is what the exported file of this recipe computes with."""


@dataclass(frozen=True)
class TrainingStrategy(Strategy):
    """Recovers accuracy by training the whole model."""

    stage: ClassVar[Stage] = "training"

    @abstractmethod
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


@dataclass(frozen=True)
class EncodingStrategy(Strategy):
    """Rewrites the exported ONNX graph."""

    stage: ClassVar[Stage] = "encoding"

    @abstractmethod
    def encode(
        self, graph: onnx.ModelProto, calibration: tuple[Tensor, ...], target: Target,
        folder: Path
    ) -> onnx.ModelProto:
        """The graph rewritten for ``target``; ``graph`` itself stays as it is. ``calibration`` has
        one tensor (n, *shape) of training inputs for each input of the graph, in order, ``folder``
        is a scratch folder.

        Raises StrategyError(``unsupported_target`` | ``unsupported_graph``).
        """


STAGES: dict[Stage, type[Strategy]] = {
    cls.stage: cls
    for cls in (StructureStrategy, WeightsStrategy, TrainingStrategy, EncodingStrategy)}
"""The base class of each stage, in the order of a recipe."""


def within_layers(path: str, layers: Container[str]) -> str | None:
    """The one of ``layers`` that ``path`` is or stands in the place of, None if there is none."""
    while path and path not in layers:
        path = path.rpartition(".")[0]
    return path or None


def within(name: str, parameter: str, value: Strength, low: float, high: float) -> None:
    """Raises StrategyError(``bad_parameters``) unless ``low <= value <= high``, for every layer of
    a table."""
    numbers = value if isinstance(value, Mapping) else {"": value}
    for layer, number in numbers.items():
        if not low <= number <= high:
            of = f" of {layer!r}" if layer else ""
            raise StrategyError(f"{name}: {parameter}{of} = {number!r} must be from {low:g} to "
                                f"{high:g}.", "bad_parameters")
