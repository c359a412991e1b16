"""A recipe: an ordered, canonical, hashable list of (strategy, layer group, parameters).

The hash does not depend on device, runtime options or seed. Floats are rounded to six significant
digits, so that a recipe that is read back from TOML or JSON has the same hash.

A parameter is one value for all layers of the step, or a table with a number for each layer:
``bits = {conv1 = 4, fc1 = 2}``. A table names the layers that the step changes.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from searcher.errors import UserError

Scalar = bool | int | float | str
Table = tuple[tuple[str, int | float], ...]
"""A number for each layer, sorted by the layer's name."""
Value = Scalar | Mapping[str, int | float]


def _canonical(value: Value) -> Scalar | Table:
    if isinstance(value, Mapping):
        return tuple(sorted((layer, _rounded(number)) for layer, number in value.items()))
    return _rounded(value) if isinstance(value, float) else value


def _rounded(number: int | float) -> int | float:
    return float(f"{number:.6g}") if isinstance(number, float) else number


@dataclass(frozen=True)
class Step:
    """One strategy on one layer group. ``parameters`` are sorted by name."""

    strategy: str
    layers: str
    parameters: tuple[tuple[str, Scalar | Table], ...] = ()

    @classmethod
    def of(cls, strategy: str, layers: str, parameters: Mapping[str, Value]) -> "Step":
        return cls(
            strategy, layers, tuple(sorted((k, _canonical(v)) for k, v in parameters.items()))
        )

    def as_dict(self) -> dict[str, Value]:
        return {"strategy": self.strategy, "layers": self.layers, **{
            name: dict(value) if isinstance(value, tuple) else value
            for name, value in self.parameters}}

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={_in_words(value)}" for name, value in self.parameters)
        return f"{self.strategy}[{self.layers}]({inside})"


def _in_words(value: Scalar | Table) -> str:
    """A table is shown by its range and the number of its layers."""
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, tuple):
        return str(value)
    numbers = [number for _, number in value]
    return f"{min(numbers):g}..{max(numbers):g} in {len(numbers)} layers"


@dataclass(frozen=True)
class Recipe:
    """Steps in order. The empty recipe is the baseline."""

    steps: tuple[Step, ...] = ()

    @property
    def hash(self) -> str:
        text = json.dumps([s.as_dict() for s in self.steps], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def as_list(self) -> list[dict[str, Value]]:
        return [step.as_dict() for step in self.steps]

    @classmethod
    def from_list(cls, steps: Sequence[Mapping[str, object]]) -> "Recipe":
        """Raises UserError for a step without ``strategy`` or with a value that is not a scalar."""
        return cls(tuple(_step(index, entry) for index, entry in enumerate(steps)))

    def as_toml(self) -> str:
        return tomli_w.dumps({"step": self.as_list()})

    @classmethod
    def from_toml(cls, path: Path) -> "Recipe":
        try:
            document = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"Recipe {path} cannot be read: {error}.") from error
        unknown = set(document) - {"step"}
        if unknown or not isinstance(document.get("step", []), list):
            raise UserError(
                f"Recipe {path} must have only [[step]] tables, found {sorted(unknown) or 'step'}."
            )
        return cls.from_list(document.get("step", []))

    def __str__(self) -> str:
        return " > ".join(map(str, self.steps)) or "baseline"


def _step(index: int, given: object) -> Step:
    if not isinstance(given, Mapping):
        raise UserError(f"Step {index + 1} of the recipe must be a table, got {given!r}.")
    entry = dict(given)
    strategy = entry.pop("strategy", None)
    layers = entry.pop("layers", "model")
    if not isinstance(strategy, str) or not isinstance(layers, str):
        raise UserError(f"Step {index + 1} of the recipe needs strategy = \"...\", got {entry!r}.")
    for key, value in entry.items():
        if isinstance(value, Mapping) and value and all(map(_is_number, value.values())):
            continue
        if not isinstance(value, bool | int | float | str):
            raise UserError(f"Step {index + 1} ({strategy}): {key} = {value!r} must be a "
                            "boolean, number or text, or a table with a number for each layer.")
    return Step.of(strategy, layers, entry)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
