"""The strategies there are: an explicit tuple of modules and the entry points
``fleetfront.strategies`` of installed distributions, imported when asked for."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strategies.base import Strategy

GROUP = "fleetfront.strategies"
OWN = "fleetfront"

MODULES: tuple[tuple[str, str, str], ...] = (
    ("channel_pruning", "strategies.structure.channel_pruning", "ChannelPruning"),
    ("tucker", "strategies.structure.tucker", "Tucker"),
    ("svd", "strategies.structure.svd", "Svd"),
    ("magnitude_pruning", "strategies.weights.magnitude_pruning", "MagnitudePruning"),
    ("clustering", "strategies.weights.clustering", "Clustering"),
    ("finetune", "strategies.training.finetune", "Finetune"),
    ("knowledge_distillation", "strategies.training.knowledge_distillation",
     "KnowledgeDistillation"),
    ("int8", "strategies.encoding.int8", "Int8"),
)
"""(name, module, class): one line a strategy."""


class UnknownStrategyError(LookupError):
    """No usable strategy of that name; the message says why or names the nearest."""


@dataclass(frozen=True)
class Place:
    """Where a strategy is implemented; ``owner`` is the distribution with its version."""

    name: str
    module: str
    attribute: str
    owner: str = OWN


@dataclass(frozen=True)
class Problem:
    """A strategy of an entry point that cannot be used, why, and what to do."""

    name: str
    owner: str
    message: str


@cache
def _offered() -> tuple[Place, ...]:
    """The entry points of installed distributions, by name; nothing of theirs is imported."""
    from importlib import metadata  # slow to import

    found = set()
    for point in metadata.entry_points(group=GROUP):
        owner = f"{point.dist.name} {point.dist.version}" if point.dist else "(unknown)"
        module, _, attribute = point.value.partition(":")
        found.add(Place(point.name, module, attribute, owner))
    return tuple(sorted(found, key=lambda place: (place.name, place.owner)))


def places() -> dict[str, Place]:
    """Every name that may be asked for. Raises RuntimeError when ``MODULES`` has one twice; of a
    name that is taken, an entry point is not used."""
    own = [Place(*line) for line in MODULES]
    found = {place.name: place for place in own}
    if len(found) < len(own):
        twice = {place.name for place in own if found[place.name] is not place}
        raise RuntimeError(f"strategies.catalog registers {sorted(twice)} twice")
    for place in _offered():
        found.setdefault(place.name, place)
    return found


def names() -> tuple[str, ...]:
    """All names, without importing any strategy."""
    return tuple(places())


@cache
def strategy(name: str) -> type[Strategy]:
    """The class of strategy ``name``. Raises UnknownStrategyError, also for an entry point whose
    class cannot be imported or is no strategy."""
    place = places().get(name)
    if place is None:
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names())}."
        raise UnknownStrategyError(f"Unknown strategy {name!r}. {hint}")
    if place.owner == OWN:
        return _loaded(place)
    try:
        return _loaded(place)
    except Exception as error:
        raise UnknownStrategyError(
            f"The strategy {name!r} of {place.owner} cannot be used: {type(error).__name__}: "
            f"{error}. Upgrade or uninstall that distribution.") from error


def _loaded(place: Place) -> type[Strategy]:
    from strategies.base import STAGES

    found: type[Strategy] = getattr(importlib.import_module(place.module), place.attribute)
    where = f"{place.module}.{place.attribute}"
    if not (isinstance(found, type) and issubclass(found, tuple(STAGES.values()))):
        raise RuntimeError(f"{where} is no subclass of a stage of strategies.base")
    if found.name != place.name:
        raise RuntimeError(f"{where} calls itself {found.name!r}, the catalog {place.name!r}")
    return found


def all_strategies() -> tuple[type[Strategy], ...]:
    """Every usable strategy class, in catalog order, those of entry points last."""
    found = []
    for place in places().values():
        try:
            found.append(strategy(place.name))
        except UnknownStrategyError:
            continue  # one broken distribution never breaks the others; see problems()
    return tuple(found)


def problems() -> tuple[Problem, ...]:
    """Every entry point that cannot be used."""
    known, found = places(), []
    for place in _offered():
        if known[place.name] != place:
            found.append(Problem(place.name, place.owner, (
                f"The strategy {place.name!r} of {place.owner} is not used: "
                f"{known[place.name].owner} has that name already. Uninstall one of them, or ask "
                "the author of the second for another name.")))
            continue
        try:
            strategy(place.name)
        except UnknownStrategyError as error:
            found.append(Problem(place.name, place.owner, str(error)))
    return tuple(found)
