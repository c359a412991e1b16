"""Parse ``campaign.toml`` into ``Campaign``: a frozen dataclass per table; unknown keys fail."""

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from agents.protocol import MeasurePlan
from searcher.errors import UserError, nearest
from searcher.spec.measurement_plan import plan_of
from searcher.spec.objectives import (
    ALIASES,
    DROP,
    ENERGY_OBJECTIVES,
    MEASURABLE,
    Objective,
    parse_objectives,
    same_objectives,
)
from searcher.spec.runtime_options import KEYS, Execution, execution_of

SAMPLERS = ("tpe", "nsga2", "random")
SWITCHES = ("repair", "scan", "warm_starts", "train")
"""Parts of the search that ``[search]`` may switch off."""
CONSTRAINTS = {DROP, "latency_s", "file_bytes", "memory_bytes", "latency_p99_s"}
DEEPEST, MOST_VALUES, LONGEST_TEXT, LARGEST = 8, 10_000, 1000, 2**63


@dataclass(frozen=True)
class Budget:
    """Limits of the search; the first one reached ends it. ``wall_minutes`` start when the baseline
    is measured, ``total_minutes`` start with the campaign and include the baseline."""

    candidates: int = 60
    wall_minutes: float = 10.0
    total_minutes: float | None = None

    def search_s(self, baseline_s: float) -> float:
        """Seconds left for the search after a baseline that took ``baseline_s``."""
        search_s = self.wall_minutes * 60
        if self.total_minutes is None:
            return search_s
        return min(search_s, max(self.total_minutes * 60 - baseline_s, 0.0))


@dataclass(frozen=True)
class SearchOptions:
    """The sampler, the strategies it may use (empty: all) and limits by ``strategy.parameter``.

    ``repair``: weights are repaired on unlabelled samples, so that every candidate has a quality
    before it is trained. ``train``: candidates are trained. ``scan``: what each layer loses decides
    the strength of each. ``warm_starts``: recipes that are known to work are asked for first.
    """

    sampler: str = "tpe"
    strategies: tuple[str, ...] = ()
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    repair: bool = True
    scan: bool = True
    warm_starts: bool = True
    train: bool = True

    def as_dict(self) -> dict[str, object]:
        """Switches are present only where they differ from their default."""
        off = {name: False for name in SWITCHES if not getattr(self, name)}
        return {"sampler": self.sampler, "strategies": list(self.strategies),
                "limits": {k: list(v) for k, v in self.limits.items()}, **off}


@dataclass(frozen=True)
class Campaign:
    """What to compress, for which devices, with which objectives and budget."""

    name: str
    task: str
    seed: int
    budget: Budget
    objectives: tuple[Objective, ...]
    constraints: Mapping[str, float]
    plan: MeasurePlan
    devices: tuple[str, ...]
    executions: tuple[Execution, ...]
    """How files run on each of ``devices``."""
    search: SearchOptions
    builders: int = 0
    named: frozenset[str] = frozenset()
    """The subset of ``devices`` that the campaign gives by enrolled name. It gives the others by
    profile; these are enrolled under the name of their profile."""

    def as_dict(self) -> dict[str, object]:
        """The JSON document that the ledger stores. ``from_document`` is its inverse."""
        return {
            "name": self.name, "task": self.task, "seed": self.seed, "builders": self.builders,
            "budget": {k: v for k, v in asdict(self.budget).items() if v is not None},
            "objectives": {o.name: o.direction for o in self.objectives},
            "constraints": dict(self.constraints),
            "measurement": {"plan": self.plan._asdict()},
            "devices": [{"name" if d in self.named else "profile": d, **e.as_dict()}
                        for d, e in zip(self.devices, self.executions, strict=True)],
            "search": self.search.as_dict(),
        }


def same_request(first: Campaign, second: Campaign) -> bool:
    """Whether both ask for the same search, however they name the metric of the task."""
    return same_objectives(first.objectives, second.objectives) and (
        replace(first, objectives=()) == replace(second, objectives=()))


def load(path: Path) -> Campaign:
    """Read a campaign from a TOML file. Raises UserError that names the file and the remedy."""
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"There is no campaign file {path}.") from error
    except RecursionError as error:
        raise UserError(f"{path} cannot be read as TOML: it is nested too deeply.") from error
    except (OSError, ValueError) as error:  # also for a number with too many digits
        raise UserError(f"{path} cannot be read as TOML: {error}.") from error
    try:
        return from_document(document)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def from_document(document: Mapping[str, object]) -> Campaign:
    """Build a campaign from a parsed document. Unknown keys and wrong types raise UserError."""
    _bounded(document)
    _known(document, {"name", "task", "seed", "budget", "objectives", "constraints",
                      "measurement", "devices", "search", "builders"}, "the campaign")
    name = _text(document, "name")
    plain = name.isascii() and name[0].isalnum() and len(name) <= 80
    if not plain or not all(c.isalnum() or c in "-_." for c in name):
        raise UserError(f"name = {name!r} must be letters, digits, '-', '_' and '.', at most 80.")
    budget = _table(document, "budget", {"candidates", "wall_minutes", "total_minutes"})
    search = _table(document, "search", {"sampler", "strategies", "limits", *SWITCHES})
    entries = _tables(document.get("devices", [{"profile": "local_cpu"}]))
    devices, named = _devices(entries)
    objectives = parse_objectives(_table(document, "objectives", None))
    plan = _plan(_table(document, "measurement", {"plan"}).get("plan", "quick"))
    _enough_energy(objectives, plan)
    return Campaign(
        name=name,
        task=_text(document, "task"),
        seed=int(_number(document, "seed", 0, 0, 2**31 - 1, whole=True)),
        budget=Budget(
            int(_number(budget, "candidates", 60, 1, 1e6, whole=True)),
            _number(budget, "wall_minutes", 10.0, 1e-3, 1e6),
            _number(budget, "total_minutes", 10.0, 1e-3, 1e6) if "total_minutes" in budget
            else None,
        ),
        objectives=objectives,
        constraints=_constraints(_table(document, "constraints", None)),
        plan=plan,
        devices=devices,
        executions=tuple(map(execution_of, entries)),
        search=_search(search),
        builders=int(_number(document, "builders", 0, 0, 256, whole=True)),
        named=named,
    )


def _bounded(document: Mapping[str, object]) -> None:
    """Refuse documents whose values are too large to be quoted in an error message."""
    level: list[object] = [document]
    count = 0
    for _ in range(DEEPEST):
        count += len(level)
        deeper: list[object] = []
        for value in level:
            if isinstance(value, str) and len(value) > LONGEST_TEXT:
                raise UserError(f"{value[:60]!r}... is longer than {LONGEST_TEXT} characters.")
            if isinstance(value, int) and abs(value) >= LARGEST:
                raise UserError(f"A whole number of {value.bit_length()} bits is too large.")
            if isinstance(value, Mapping):
                deeper += (*value, *value.values())
            elif isinstance(value, list):
                deeper += value
        level = deeper
        if count + len(level) > MOST_VALUES:
            raise UserError(f"The campaign has more than {MOST_VALUES} values.")
    if level:
        raise UserError(f"The campaign is nested more than {DEEPEST} levels deep.")


def _known(table: Mapping[str, object], known: Iterable[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise UserError(f"Unknown key {key!r} in {where}. {nearest(key, known)}")


def _table(document: Mapping[str, object], key: str, known: Iterable[str] | None) -> dict[str,
                                                                                          object]:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise UserError(f"[{key}] must be a table, got {table!r}.")
    if known is not None:
        _known(table, known, f"[{key}]")
    return table


def _text(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"{key} must be a non-empty text, got {value!r}.")
    return value


def _number(table: Mapping[str, object], key: str, default: float, low: float, high: float,
            whole: bool = False) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or (
            not low <= value <= high):
        kind = "whole number" if whole else "number"
        raise UserError(f"{key} = {value!r} must be a {kind} from {low:g} to {high:g}.")
    return float(value)


def _plan(value: object) -> MeasurePlan:
    if not isinstance(value, str | dict):
        raise UserError(f"plan = {value!r} must be a name or a table.")
    return plan_of(value)


def _enough_energy(objectives: Iterable[Objective], plan: MeasurePlan) -> None:
    """Refuse an objective of energy or power if the plan does not measure it."""
    names = {objective.name for objective in objectives}
    if names & ENERGY_OBJECTIVES and plan.energy_s <= 0:
        raise UserError(f"Objective {', '.join(sorted(names & ENERGY_OBJECTIVES))} needs a plan "
                        f"with energy_s > 0, for example plan = {{energy_s = 20, idle_s = 5}}; "
                        f"{plan.name!r} has none.")
    if "energy_j" in names and plan.idle_s <= 0:
        raise UserError("Objective energy_j is net of idle power and needs a plan with idle_s > 0.")


def _constraints(table: Mapping[str, object]) -> dict[str, float]:
    aliases = {alias: name for alias, name in ALIASES.items() if name in CONSTRAINTS}
    usable = CONSTRAINTS & {*MEASURABLE, DROP}
    for key in table:
        name = aliases.get(key, key)
        if name not in CONSTRAINTS:
            raise UserError(f"Unknown constraint {key!r}. {nearest(key, {*CONSTRAINTS, *aliases})}")
        if name not in usable:
            raise UserError(f"Constraint {key!r} cannot be measured yet. "
                            f"Use: {', '.join(sorted(usable))}.")
        if key != name and name in table:
            raise UserError(f"Constraint {key!r} is another name of {name!r}. Keep one of both.")
    return {aliases.get(key, key): _number(table, key, 0.0, 0.0, 1e15) for key in table}


def _tables(entries: object) -> list[Mapping[str, object]]:
    if not isinstance(entries, list) or not entries:
        raise UserError(f"[[devices]] must be a list of tables, got {entries!r}.")
    for entry in entries:
        if not isinstance(entry, dict):
            raise UserError(f"[[devices]] must hold tables, got {entry!r}.")
    return entries


def _devices(entries: Iterable[Mapping[str, object]]) -> tuple[tuple[str, ...], frozenset[str]]:
    """All devices, and the subset that is given by name."""
    for entry in entries:
        _known(entry, {"profile", "name", *KEYS}, "[[devices]]")
        if "name" in entry and "profile" in entry:
            raise UserError(f"[[devices]] {entry!r}: give either the name of an enrolled device "
                            "or a profile, not both.")
    named = frozenset(_text(entry, "name") for entry in entries if "name" in entry)
    return tuple(_text(entry, "name" if "name" in entry else "profile") for entry in entries), named


def _search(table: Mapping[str, object]) -> SearchOptions:
    sampler = table.get("sampler", "tpe")
    if sampler not in SAMPLERS:
        raise UserError(f"sampler = {sampler!r} is unknown. {nearest(str(sampler), SAMPLERS)}")
    strategies = table.get("strategies", [])
    if not isinstance(strategies, list) or not all(isinstance(s, str) for s in strategies):
        raise UserError(f"strategies = {strategies!r} must be a list of names.")
    if len(set(strategies)) != len(strategies):
        raise UserError(f"strategies = {strategies!r} has a duplicate.")
    limits = table.get("limits", {})
    if not isinstance(limits, dict):
        raise UserError(f"[search.limits] must be a table, got {limits!r}.")
    switches = {name: _switch(table, name) for name in SWITCHES}
    if not switches["train"] and not switches["repair"]:
        raise UserError("[search] train = false with repair = false leaves every candidate without "
                        "a quality. Keep one of both true.")
    return SearchOptions(
        sampler, tuple(strategies), {k: _range(k, v) for k, v in limits.items()}, **switches)


def _switch(table: Mapping[str, object], name: str) -> bool:
    value = table.get(name, True)
    if not isinstance(value, bool):
        raise UserError(f"[search] {name} = {value!r} must be true or false.")
    return value


def _range(name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2 or not all(
            isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
            for v in value) or value[0] > value[1]:
        raise UserError(f"limits: {name} = {value!r} must be [low, high].")
    return float(value[0]), float(value[1])
