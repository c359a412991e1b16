"""One number of a step for all layers -> a number for each layer, from what a scan found.

The numbers cost as much as the one number on every layer would, and lose least: water-filling
(``strategies.repair.sensitivity.allocate``). The recipe holds the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strategies.base import Layer, StructureStrategy
from strategies.canonical import decided
from strategies.catalog import strategy
from strategies.pipeline import Step, Value
from strategies.repair.sensitivity import allocate

FEWEST_LAYERS = 3
"""With fewer layers a search moves each number itself."""


@dataclass(frozen=True)
class LayerScan:
    """What each layer loses, and what it costs (bytes, MACs), when it alone has one of several
    strengths."""

    losses: Mapping[str, Mapping[float, float]]
    costs: Mapping[str, Mapping[float, tuple[float, float]]]

    def table(self, layers: Sequence[str], mean: float, cost: int) -> dict[str, float]:
        """The strengths of ``layers``, which must be in the scan, that cost as much as ``mean`` on
        each; ``cost`` is the index of what counts."""
        costs = {name: {strength: both[cost] for strength, both in self.costs[name].items()}
                 for name in layers}
        budget = sum(_at(costs[name], mean) for name in layers)
        return allocate({name: self.losses[name] for name in layers}, costs, budget)


def resolved(steps: Sequence[Step], layers: Sequence[Layer], scans: Mapping[str, LayerScan]
             ) -> list[Step]:
    """``steps`` with tables in place of the numbers of scanned strategies, for steps on at least
    ``FEWEST_LAYERS`` layers of which each was scanned. ``scans`` are by strategy."""
    return [_with_table(step, names, scans.get(str(step["strategy"])))
            for step, names in zip(steps, decided(steps, layers), strict=True)]


def _with_table(step: Step, names: tuple[str, ...] | None, scan: LayerScan | None) -> Step:
    kind = strategy(str(step["strategy"]))
    name = next(iter(kind.by_layer), None)
    mean = None if name is None else step[name]
    if scan is None or names is None or name is None or not isinstance(mean, int | float):
        return step
    known = [layer for layer in names if layer in scan.losses]
    if len(known) < max(len(names), FEWEST_LAYERS):
        return step
    by_macs = issubclass(kind, StructureStrategy)
    numbers = scan.table(known, mean, 1 if by_macs else 0)
    table: Value = {layer: kind.by_layer[name](value) for layer, value in numbers.items()}
    return {**step, name: table}


def _at(known: Mapping[float, float], strength: float) -> float:
    """Linear between the strengths of ``known``, constant beyond them."""
    above = min((k for k in known if k >= strength), default=max(known))
    below = max((k for k in known if k <= strength), default=min(known))
    if above <= below:
        return known[below]
    return known[below] + (strength - below) / (above - below) * (known[above] - known[below])
