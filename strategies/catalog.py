"""The strategies there are: an explicit tuple of modules, imported when asked for."""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from typing import Any

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
    """No strategy of that name; the message names the nearest."""


def names() -> tuple[str, ...]:
    """All names, without importing any strategy. A name used twice is refused."""
    found = tuple(name for name, _, _ in MODULES)
    twice = {name for name in found if found.count(name) > 1}
    if twice:
        raise RuntimeError(f"strategies.catalog registers {sorted(twice)} twice")
    return found


@cache
def strategy(name: str) -> type[Any]:
    """The class of strategy ``name``. Raises UnknownStrategyError."""
    for known, module, attribute in MODULES:
        if known == name:
            found: type[Any] = getattr(importlib.import_module(module), attribute)
            if found.name != name:
                raise RuntimeError(f"{module}.{attribute} calls itself {found.name!r}, the "
                                   f"catalog {name!r}")
            return found
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names())}."
    raise UnknownStrategyError(f"Unknown strategy {name!r}. {hint}")


def all_strategies() -> tuple[type[Any], ...]:
    """Every strategy class, in catalog order."""
    return tuple(strategy(name) for name in names())
