"""Ordered composition: ``(structure* weights* training?)+ encoding*``; impossible orders are
refused with the reason."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import cast

from strategies.base import (
    EncodingStrategy,
    Strategy,
    StrategyError,
    StructureStrategy,
    TrainingStrategy,
    WeightsStrategy,
)
from strategies.catalog import UnknownStrategyError, strategy
from strategies.number_formats import FLOAT32

Value = bool | int | float | str | Mapping[str, float]
Step = Mapping[str, Value]
BESIDE_PARAMETERS = {"strategy", "layers"}


def instantiate(step: Step) -> Strategy:
    """The strategy of one step with its parameters.

    Raises StrategyError(``unknown_strategy`` | ``bad_parameters``).
    """
    name = str(step["strategy"])
    try:
        cls = strategy(name)
    except UnknownStrategyError as error:
        raise StrategyError(str(error), "unknown_strategy") from error
    known = {f.name: f.type for f in fields(cls)}
    given = {k: v for k, v in step.items() if k not in BESIDE_PARAMETERS}
    for key, value in given.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {sorted(known)}."
            raise StrategyError(f"{name} has no parameter {key!r}. {hint}", "bad_parameters")
        given[key] = (_table(name, key, value, cls) if isinstance(value, Mapping)
                      else _typed(name, key, value, cls.by_layer.get(key, known[key])))
    try:
        return cls(**given)
    except TypeError as error:
        missing = sorted(set(known) - set(given))
        raise StrategyError(f"{name} needs {', '.join(missing)}: {error}",
                            "bad_parameters") from error


def _table(name: str, key: str, table: Mapping[str, float], cls: type[Strategy]) -> Value:
    """A number for each layer, of the type that ``cls`` declares."""
    if key not in cls.by_layer:
        raise StrategyError(f"{name}: {key} must be one value, not a table of layers.",
                            "bad_parameters")
    return {layer: cast(float, _typed(name, f"{key}.{layer}", number, cls.by_layer[key]))
            for layer, number in table.items()}


def _typed(name: str, key: str, value: Value, wanted: object) -> Value:
    """``wanted`` is the annotation of a dataclass's field, a text where annotations are lazy."""
    kind = (wanted if isinstance(wanted, type)
            else {"float": float, "int": int}.get(str(wanted), str))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise StrategyError(f"{name}: {key} = {value!r} must be a {kind.__name__}.",
                            "bad_parameters")
    return value


def check(steps: Sequence[Step]) -> None:
    """Raises StrategyError(``impossible_order`` | ``unknown_strategy`` | ``bad_parameters``)."""
    seen: set[str] = set()
    for number, step in enumerate(steps, 1):
        here = f"step {number} ({step['strategy']})"
        try:
            found = instantiate(step)
        except StrategyError as error:
            raise StrategyError(f"{here}: {error}", error.reason) from error
        stage = found.stage
        if EncodingStrategy.stage in seen and not isinstance(found, EncodingStrategy):
            raise StrategyError(f"{here}: no {stage} step can follow an encoding step, the model "
                                "is an exported graph by then.", "impossible_order")
        if isinstance(found, StructureStrategy) and WeightsStrategy.stage in seen:
            raise StrategyError(f"{here}: no structure step can follow a weights step, it would "
                                "drop the constraint on the weights.", "impossible_order")
        whole = isinstance(found, TrainingStrategy | EncodingStrategy)
        if whole and step.get("layers", "model") != "model":
            raise StrategyError(f"{here}: a {stage} step works on the whole model; leave out "
                                f"layers = {step['layers']!r}.", "bad_parameters")
        seen.add(stage)


def number_format(steps: Sequence[Step]) -> str:
    """What the exported file of a recipe computes with: the format of its last step that changes
    it. Raises StrategyError."""
    for step in reversed(steps):
        found = instantiate(step).number_format
        if found is not None:
            return found
    return FLOAT32
