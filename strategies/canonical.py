"""Which layers each step of a recipe changes, and the recipe without what changes nothing."""

from collections.abc import Iterator, Mapping, Sequence

from strategies.base import (
    Layer,
    Strategy,
    StrategyError,
    StructureStrategy,
    TrainingStrategy,
    WeightsStrategy,
)
from strategies.layers import select
from strategies.pipeline import Step, Value, instantiate

GROUPS = frozenset({"model", "convolutions", "fully_connected", "depthwise", "pointwise", "first",
                    "last"})
"""Groups that every model may have; a recipe may also name a layer."""

Decided = tuple[str, ...] | None


def decided(steps: Sequence[Step], layers: Sequence[Layer]) -> list[Decided]:
    """The layers of the baseline that each step decides: those of its table, else of its group,
    less those that a narrower step of the same strategy decides (of two equally wide ones the
    later), unless a training stands between them. None for a step on the whole model, and for a
    group or table of layers that only a step before it makes.

    Raises StrategyError(``bad_parameters`` | ``unknown_strategy``).
    """
    found = [instantiate(step) for step in steps]
    members = [_members(step, strategy, layers)
               for step, strategy in zip(steps, found, strict=True)]
    rivals = list(_parts(found))
    return [None if own is None else tuple(
        name for name in own if not any(
            _yields(index, other, members, name) for other in range(len(steps))
            if rivals[other] == rivals[index]))
        for index, own in enumerate(members)]


def canonical(steps: Sequence[Step], layers: Sequence[Layer]) -> list[dict[str, Value]]:
    """``steps`` without those that change nothing on ``layers`` (those of the baseline): no layer
    in the group, numbers without effect, layers that a narrower step decides. Tables keep only the
    layers that they change. Equal results have equal builds.

    Raises StrategyError(``bad_parameters`` | ``unknown_strategy``).
    """
    known = {layer.name: layer for layer in layers}
    kept = []
    for step, names in zip(steps, decided(steps, layers), strict=True):
        strategy = instantiate(step)
        if names is None:
            kept.append(dict(step))
            continue
        changed = [name for name in names if strategy.changes(known[name])]
        if changed:
            kept.append({key: {name: value[name] for name in sorted(changed)}
                         if isinstance(value, Mapping) else value
                         for key, value in step.items()})
    return kept


def _members(step: Step, strategy: Strategy, layers: Sequence[Layer]) -> Decided:
    if not isinstance(strategy, StructureStrategy | WeightsStrategy):
        return None
    names = [layer.name for layer in layers]
    if strategy.tabled_layers is not None:
        known = strategy.tabled_layers <= set(names)
        return tuple(n for n in names if n in strategy.tabled_layers) if known else None
    group = str(step.get("layers", "model"))
    try:
        return tuple(select(layers, group))
    except StrategyError:
        return () if group in GROUPS else None


def _parts(strategies: Sequence[Strategy]) -> Iterator[tuple[str, int]]:
    """(strategy, number of trainings before)."""
    trainings = 0
    for strategy in strategies:
        trainings += isinstance(strategy, TrainingStrategy)
        yield strategy.name, trainings


def _yields(index: int, other: int, members: Sequence[Decided], layer: str) -> bool:
    """Whether step ``index`` leaves ``layer`` to step ``other``."""
    own, theirs = members[index], members[other]
    if own is None or theirs is None or index == other or layer not in theirs:
        return False
    return len(theirs) < len(own) or (len(theirs) == len(own) and other > index)
