"""The ranges of a strategy's numbers, and its strongest form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from strategies.base import Layer, Limits, Strategy


@dataclass(frozen=True)
class Range:
    """Range of a number; ``strength`` 0 is its high end (weak), 1 its low end (strong)."""

    low: float
    high: float
    log: bool
    whole: bool

    def value(self, strength: float) -> float | int:
        share = min(max(strength, 0.0), 1.0)
        if self.log:
            found: float = self.high * (self.low / self.high) ** share
        else:
            found = self.high + share * (self.low - self.high)
        found = min(max(found, self.low), self.high)
        return round(found) if self.whole else found

    def strength(self, value: float) -> float:
        if self.high <= self.low:
            return 0.0
        if self.log:
            return math.log(value / self.high) / math.log(self.low / self.high)
        return (self.high - value) / (self.high - self.low)


class _Ranges:
    """A ``strategies.base.Suggester`` that records every range and returns its low end."""

    def __init__(self) -> None:
        self.found: dict[str, Range] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.found[name] = Range(low, high, log, False)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.found[name] = Range(low, high, log, True)
        return low


def ranges_of(strategy: type[Strategy], prefix: str, layers: Sequence[Layer],
            limits: Limits) -> dict[str, Range]:
    ranges = _Ranges()
    strategy.suggest(ranges, layers, limits)
    return {prefix + name: span for name, span in ranges.found.items()}


def strongest(strategy: type[Strategy], layers: Sequence[Layer], limits: Limits) -> Strategy:
    """The strategy with each number at the low end of its range, which compresses most."""
    return strategy.suggest(_Ranges(), layers, limits)
