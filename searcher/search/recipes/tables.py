"""One number of a step for all layers -> a number for each layer, from what a scan found.

The numbers cost as much as the one number on every layer would, and lose least: water-filling
(``strategies.repair.sensitivity.allocate``). A move then changes the number of one layer by some
levels of its strategy. The recipe holds the table.
"""

from collections.abc import Iterable, Mapping, Sequence

from searcher.search.recipes.offers import NARROW
from searcher.spec.scan_result import Cost, ScanResult
from strategies.base import Layer, Limits, Strategy, StructureStrategy
from strategies.canonical import decided
from strategies.catalog import strategy
from strategies.pipeline import Step, Value
from strategies.repair.sensitivity import interpolated, table_of

MOST_LOSS = 0.1
"""Squared error of the model's outputs, as a share of their variance, that a recipe may expect
before it is repaired as a whole: with more, the outputs say little of the input."""
FEWEST_LAYERS = 3
"""With fewer layers a search moves each number itself."""
MOST_LEVELS = 3
"""By how many levels moves may change the number of a layer, up or down."""

Scans = Mapping[str, ScanResult]
"""By strategy."""
Parameters = Mapping[str, float]
"""Numbers and switches of a study, by name."""
Moves = Mapping[str, int]
"""Levels up (weaker) or down, by ``<group>.<strategy>.<parameter>@<layer>``."""


def moves_in(parameters: Iterable[str]) -> list[str]:
    """The names of moves among those of parameters."""
    return sorted(name for name in parameters if "@" in name)


def move_name(choice: str, parameter: str, layer: str) -> str:
    """``choice`` is ``<group>.<strategy>``."""
    return f"{choice}.{parameter}@{layer}"


def scanned_parameter(kind: type[Strategy]) -> str | None:
    """The parameter that a scan gives a number for each layer."""
    return next(iter(kind.by_layer), None) if kind.levels else None


def layers_with_numbers(scan: ScanResult | None, group: str, names: Iterable[str]) -> list[str]:
    """Those of ``names``, the layers that a step on ``group`` decides, that get a number of their
    own: none where too few were scanned, or a narrow group has others."""
    members = list(names)
    known = [] if scan is None else [name for name in members if name in scan.losses]
    few = len(known) < FEWEST_LAYERS or group in NARROW and len(known) < len(members)
    return [] if few else known


def resolved(steps: Sequence[Step], layers: Sequence[Layer], scans: Scans,
             moves: Moves | None = None, limits: Limits | None = None) -> list[Step]:
    """``steps`` with tables in place of the numbers of scanned strategies, for steps on at least
    ``FEWEST_LAYERS`` scanned layers. Layers that a scan left out have no number of their own:
    they cannot be compressed, or go with another layer. Every number keeps ``limits``."""
    return [_with_table(step, names, scans.get(str(step["strategy"])), moves or {},
                        limits or Limits())
            for step, names in zip(steps, decided(steps, layers), strict=True)]


def _with_table(step: Step, names: tuple[str, ...] | None, scan: ScanResult | None,
                moves: Moves, limits: Limits) -> Step:
    kind = strategy(str(step["strategy"]))
    name = scanned_parameter(kind)
    mean = None if name is None else step[name]
    if scan is None or names is None or name is None or not isinstance(mean, int | float):
        return step
    known = layers_with_numbers(scan, str(step["layers"]), names)
    levels = allowed_levels(kind, name, limits)
    if not known or len(levels) < 2:
        return step
    numbers = strengths(scan, known, mean, "macs" if issubclass(kind, StructureStrategy)
                        else "file_bytes", levels)
    choice = f"{step['layers']}.{kind.name}"
    table: Value = {layer: kind.by_layer[name](_moved(
        number, levels, moves.get(move_name(choice, name, layer), 0)))
        for layer, number in numbers.items()}
    return {**step, name: table}


def allowed_levels(kind: type[Strategy], parameter: str, limits: Limits) -> tuple[float, ...]:
    """The levels of a scan within the user's ``limits``."""
    low, high = limits.range(f"{kind.name}.{parameter}", kind.levels[0], kind.levels[-1])
    return tuple(level for level in kind.levels if low <= level <= high)


def strengths(scan: ScanResult, layers: Sequence[str], mean: float, cost: Cost,
              levels: Sequence[float]) -> dict[str, float]:
    """The strengths of ``layers``, of ``levels``, that cost as much as ``mean`` on each of them."""
    losses, costs = ({layer: {level: by_layer[layer][level] for level in levels}
                      for layer in layers} for by_layer in (scan.losses, scan.costs[cost]))
    return table_of(losses, costs, mean)


def allowed_strength(scan: ScanResult | None, wanted: float) -> float:
    """``wanted``, or the next weaker number of which the scan expects at most ``MOST_LOSS``."""
    if scan is None or not scan.layers:
        return wanted
    losses = scan.losses.values()
    levels = sorted({level for layer in losses for level in layer if level > wanted})
    weaker = (level for level in (wanted, *levels) if sum(
        interpolated(layer, level) for layer in losses) <= MOST_LOSS)
    return next(weaker, max([wanted, *levels]))


def _moved(number: float, levels: Sequence[float], by: int) -> float:
    """The level that is ``by`` levels from the one at or below ``number``."""
    if not by:
        return number
    place = sum(level <= number for level in levels) - 1 + by
    return levels[min(max(place, 0), len(levels) - 1)]
