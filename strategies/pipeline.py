"""Ordered composition: ``(structure* weights* training?)+ encoding*``; impossible orders are
refused with the reason."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from strategies.base import StrategyError
from strategies.catalog import UnknownStrategyError, strategy

Step = Mapping[str, Any]
BESIDE_PARAMETERS = {"strategy", "layers"}


def instantiate(step: Step) -> Any:
    """The strategy of one step with its parameters.

    Raises StrategyError(``unknown_strategy`` | ``bad_parameters``).
    """
    name = step["strategy"]
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
        given[key] = _typed(name, key, value, known[key])
    try:
        return cls(**given)
    except TypeError as error:
        missing = sorted(set(known) - set(given))
        raise StrategyError(f"{name} needs {', '.join(missing)}: {error}",
                            "bad_parameters") from error


def _typed(name: str, key: str, value: Any, wanted: Any) -> Any:
    kind = wanted if isinstance(wanted, type) else {"float": float, "int": int}.get(wanted, str)
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
        found = instantiate(step)
        stage, name = found.stage, found.name
        here = f"step {number} ({name})"
        if "encoding" in seen and stage != "encoding":
            raise StrategyError(f"{here}: no {stage} step can follow an encoding step, the model "
                                "is an exported graph by then.", "impossible_order")
        if stage == "structure" and "weights" in seen:
            raise StrategyError(f"{here}: no structure step can follow a weights step, it would "
                                "drop the constraint on the weights.", "impossible_order")
        if step.get("layers", "model") != "model" and stage in ("training", "encoding"):
            raise StrategyError(f"{here}: a {stage} step works on the whole model; leave out "
                                f"layers = {step['layers']!r}.", "bad_parameters")
        seen.add(stage)


