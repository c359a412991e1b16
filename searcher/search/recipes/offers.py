"""Which strategies a search offers on which groups of layers: those that can change something."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from searcher.search.recipes.ranges import strongest
from strategies.base import Layer, Limits, Strategy, StructureStrategy, WeightsStrategy

PARTS = ("convolutions", "fully_connected")
"""Groups into which the whole model is split."""
NARROW = ("depthwise", "pointwise", "first", "last")
"""Groups within the parts. A step on one of them decides its layers beside a step of the same
strategy on a wider group."""
GROUPS = ("model", *PARTS, *NARROW)

Offer = tuple[str, type[Strategy]]
WhyNot = Callable[[StructureStrategy, Sequence[str]], str | Mapping[str, str] | None]
"""Why a structure step cannot be applied to layers of the model: a text if to none of them, by
layer if to some of them; None if it can."""
MOST_NAMED = 6


def offers(strategies: Iterable[type[Strategy]], layers: Sequence[Layer], limits: Limits,
           why_not: WhyNot = lambda strategy, names: None) -> tuple[list[Offer], list[str]]:
    """Pairs of group and strategy, and notes about strategies and layers that the model does not
    allow.

    A pair is offered if the strategy changes a layer of the group at its strongest, and no wider
    group has the same layers that it changes.
    """
    found, notes = list[Offer](), list[str]()
    for strategy in strategies:
        if not issubclass(strategy, StructureStrategy | WeightsStrategy):
            found += [(group, strategy) for group in strategy.groups if group == "model"]
            continue
        seen, refused, left = set[tuple[str, ...]](), dict[str, str](), dict[str, str]()
        for group in _groups(strategy):
            members = [layer for layer in layers if group in layer.groups]
            at_most = strongest(strategy, members, limits)
            names = tuple(layer.name for layer in members if at_most.changes(layer))
            if not names or names in seen:
                continue
            seen.add(names)
            why = why_not(at_most, names) if isinstance(at_most, StructureStrategy) else None
            if isinstance(why, str):
                refused[group] = why
            else:
                found.append((group, strategy))
                left = {**(why or {}), **left}
        if not any(offered is strategy for _, offered in found):
            why = next(iter(refused.values()), "no layer is large enough, or of its kind")
            notes.append(f"{strategy.name} is left out: {why}")
        elif left:
            notes.append(f"{strategy.name} leaves {_listed(left)}")
    return found, notes


def _listed(left: Mapping[str, str]) -> str:
    named = [f"{layer}: {why}" for layer, why in left.items()][:MOST_NAMED]
    more = len(left) - len(named)
    return "; ".join([*named, *([f"{more} more layers"] if more else [])])


def _groups(strategy: type[Strategy]) -> list[str]:
    """Those for which the strategy may be chosen, wider ones first; the narrow ones are within all
    layers or within convolutions."""
    wide = {"model", "convolutions"}.intersection(strategy.groups)
    return [group for group in GROUPS
            if group in strategy.groups or (group in NARROW and wide)]
