"""What each layer loses when it alone is compressed: the numbers behind a strength per layer."""

import copy
import heapq
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from strategies.base import StrategyError, WeightsStrategy
from strategies.dataflow import evaluating
from strategies.number_formats import FLOAT32
from strategies.repair.layer_inputs import Geometry, Moments, moments_of
from strategies.repair.weights import constraints, solve
from strategies.tensor_trees import leaves
from strategies.weights.clustering import Clustering

SAMPLES = 128
FEWEST_SAMPLES = 16

Losses = Mapping[str, Mapping[float, float]]
"""{layer: {strength: loss}}"""
Compress = Callable[[nn.Module, str, float], nn.Module | None]
"""(a copy of the model, layer, strength) -> the model with this layer alone compressed: another
one, or None where only weights of the layer were changed in place."""
Weigh = Callable[[nn.Module, str, float], tuple[float, ...]]
"""(compressed model, layer, strength) -> costs of the layer."""


@dataclass(frozen=True)
class Scan:
    """``losses`` are squared errors of the model's outputs relative to their variance over
    ``samples`` inputs; so those of several layers add up. ``coarser`` says what a deadline left
    out, None where nothing."""

    losses: Losses
    samples: int
    coarser: str | None = None
    costs: Mapping[str, Mapping[float, tuple[float, ...]]] = field(default_factory=dict)


def loss_of_each(model: nn.Module, layers: Sequence[str], strengths: Sequence[float],
                 calibration: Sequence[Tensor], compress: Compress | None = None,
                 deadline_s: float = math.inf, weigh: Weigh | None = None) -> Scan:
    """The loss of ``model`` when one of ``layers`` alone has one of ``strengths``, by default bits
    of its codes by GPTQ; ``calibration`` has one tensor (n, ...) for each input of the model.

    A scan that would take longer than ``deadline_s`` looks at fewer samples and ends early, with
    at least the lowest and the highest strength of every layer; strengths between are then
    interpolated. ``weigh`` gives the costs of the scan. Raises StrategyError(``no_calibration``)
    without samples.
    """
    if not calibration or len(calibration[0]) == 0:
        raise StrategyError("A scan needs at least one calibration sample.", "no_calibration")
    ends_s = time.monotonic() + deadline_s
    samples = [tensor[:SAMPLES] for tensor in calibration]
    if compress is None:
        compress = constrained(
            lambda strength: Clustering(int(strength)), moments_of(model, layers, samples))
    wanted = sorted(set(strengths))
    scanner = _Scanner(model, compress, weigh)
    count = scanner.look_at(samples, (ends_s - time.monotonic()) / max(
        len(layers) * len(wanted), 1))
    losses: dict[str, dict[float, float]] = {name: {} for name in layers}
    for place, strength in enumerate(_coarse_first(wanted)):
        for name in layers:
            if place < 2 or time.monotonic() < ends_s:
                losses[name][strength] = scanner.loss(name, strength)
    said = []
    if count < len(samples[0]):
        said.append(f"{count} samples instead of {len(samples[0])}")
    missing = sum(len(wanted) - len(found) for found in losses.values())
    if missing:
        said.append(f"{missing} of {len(layers) * len(wanted)} losses interpolated")
    return Scan({name: filled(found, wanted) for name, found in losses.items()}, count,
                " and ".join(said) or None,
                {name: _between(found, wanted) for name, found in scanner.costs.items()})


def _coarse_first(strengths: Sequence[float]) -> list[float]:
    """The lowest, the highest, and then whatever lies farthest from those before."""
    waiting, found = list(strengths), list[float]()
    while waiting:
        chosen = waiting[0] if not found else max(
            waiting, key=lambda s: min(abs(s - known) for known in found))
        waiting.remove(chosen)
        found.append(chosen)
    return found


def _between(known: Mapping[float, tuple[float, ...]], strengths: Sequence[float]
             ) -> dict[float, tuple[float, ...]]:
    """The costs of ``strengths``, linear between those ``known``."""
    return {strength: tuple(interpolated(dict(zip(known, part, strict=True)), strength)
                            for part in zip(*known.values(), strict=True))
            for strength in strengths}


def interpolated(known: Mapping[float, float], strength: float) -> float:
    """Linear between the strengths of ``known``, constant beyond them."""
    above = min((k for k in known if k >= strength), default=max(known))
    below = max((k for k in known if k <= strength), default=min(known))
    if above <= below:
        return known[below]
    share = (strength - below) / (above - below)
    return known[below] + share * (known[above] - known[below])


def filled(measured: Mapping[float, float], strengths: Sequence[float]) -> dict[float, float]:
    """The losses of ``strengths``: those ``measured``, and between them on a logarithmic scale,
    on a linear one next to a strength that loses nothing."""
    known = sorted(measured)
    found = {}
    for strength in strengths:
        above = next((k for k in known if k >= strength), known[-1])
        below = next((k for k in reversed(known) if k <= strength), known[0])
        if strength not in measured and not measured[below] * measured[above]:
            found[strength] = interpolated(measured, strength)
            continue
        low, high = (math.log(max(measured[k], 1e-30)) for k in (below, above))
        share = (strength - below) / (above - below) if above > below else 0.0
        found[strength] = (measured[strength] if strength in measured
                           else math.exp(low + share * (high - low)))
    return found


def allocate(losses: Losses, costs: Losses, budget: float) -> dict[str, float]:
    """The strength of each layer for the least sum of losses at a sum of ``costs`` ({layer:
    {strength: cost}}) of at most ``budget``.

    Water-filling: each layer starts at its lowest cost, then the step of the largest gain per cost
    is taken, to any level of a layer, until none fits (Shoham and Gersho 1988, Efficient Bit
    Allocation for an Arbitrary Set of Quantizers). Losses are made monotone first: a level that
    costs more is never taken for a larger loss. Where not even the lowest costs fit, those.
    """
    levels = {name: _hull(losses[name], costs[name]) for name in losses}
    at = {name: 0 for name in levels}
    left = budget - sum(found[0][0] for found in levels.values())
    steps = [step for place, name in enumerate(levels)
             for step in _next_step(levels[name], 0, left, place, name)]
    heapq.heapify(steps)
    while steps:
        _, place, name, index = heapq.heappop(steps)
        more = levels[name][index][0] - levels[name][at[name]][0]
        if more <= left:
            left, at[name] = left - more, index
        for step in _next_step(levels[name], at[name], left, place, name):
            heapq.heappush(steps, step)
    return {name: found[at[name]][2] for name, found in levels.items()}


def _next_step(levels: Sequence[tuple[float, float, float]], at: int, left: float, place: int,
               name: str) -> list[tuple[float, int, str, int]]:
    """The step up from level ``at`` that gains most per cost, among those that cost at most
    ``left``: (-gain, place, name, level), or nothing."""
    cost, loss, _ = levels[at]
    gains = [((levels[index][1] - loss) / (levels[index][0] - cost), place, name, index)
             for index in range(at + 1, len(levels)) if levels[index][0] - cost <= left]
    return [min(gains)] if gains else []


def table_of(losses: Losses, costs: Losses, mean: float) -> dict[str, float]:
    """The strength of each layer for the least sum of losses at the cost of strength ``mean`` in
    every layer; ``allocate`` with costs between levels taken as linear."""
    return allocate(losses, costs, sum(interpolated(known, mean) for known in costs.values()))


def _hull(losses: Mapping[float, float], costs: Mapping[float, float]
          ) -> list[tuple[float, float, float]]:
    """(cost, loss, strength), costs rising and losses falling."""
    found: list[tuple[float, float, float]] = []
    for cost, loss, strength in sorted((costs[s], losses[s], s) for s in losses):
        if not found:
            found.append((cost, loss, strength))
        elif loss < found[-1][1]:
            if cost == found[-1][0]:
                found.pop()
            found.append((cost, loss, strength))
    return found


class _Scanner:
    """One copy of the model, of which one layer at a time is another."""

    def __init__(self, model: nn.Module, compress: Compress, weigh: Weigh | None) -> None:
        self.model, self.compress, self.weigh = copy.deepcopy(model), compress, weigh
        self.costs: dict[str, dict[float, tuple[float, ...]]] = {}
        self.samples: Sequence[Tensor] = ()
        self.outputs: list[Tensor] = []
        self.spread: list[float] = []

    def look_at(self, samples: Sequence[Tensor], pass_s: float) -> int:
        """Losses are from now on those over the first of ``samples``, of which a pass takes about
        ``pass_s``; returns how many."""
        began = time.monotonic()
        outputs, count = self._run(samples), len(samples[0])
        taken_s = time.monotonic() - began
        if taken_s > pass_s:
            count = min(count, max(FEWEST_SAMPLES, int(count * pass_s / taken_s)))
            outputs = self._run([tensor[:count] for tensor in samples])
        self.samples, self.outputs = [tensor[:count] for tensor in samples], outputs
        self.spread = [float((part - part.mean(0)).square().mean()) for part in outputs]
        return count

    def loss(self, layer: str, strength: float) -> float:
        """Of ``layer`` alone at ``strength``, the mean over the outputs of the model."""
        module = self.model.get_submodule(layer)
        kept = copy.deepcopy(module.state_dict())
        try:
            changed = self.compress(self.model, layer, strength) or self.model
            if self.weigh is not None:
                self.costs.setdefault(layer, {})[strength] = self.weigh(changed, layer, strength)
            found = self._run(self.samples, changed)
        finally:
            module.load_state_dict(kept)
        errors = [float((now - before).square().mean()) / max(spread, 1e-30)
                  for now, before, spread in zip(found, self.outputs, self.spread, strict=True)]
        return sum(errors) / max(len(errors), 1)

    def _run(self, samples: Sequence[Tensor], model: nn.Module | None = None) -> list[Tensor]:
        model = model or self.model
        with evaluating(model):
            found = leaves(model(*(tensor.clone() for tensor in samples)))
            return [part.detach().float() for part in found if part.is_floating_point()]


def constrained(strategy: Callable[[float], WeightsStrategy], moments: Mapping[str, Moments]
                ) -> Compress:
    """Puts the constraint of ``strategy(strength)`` on a layer and solves it for the least error
    by the moments of its inputs; a constraint of another kind is taken as it is."""
    def compress(model: nn.Module, layer: str, strength: float) -> None:
        module, seen = model.get_submodule(layer), moments.get(layer)
        weight = module.weight
        assert isinstance(weight, Tensor)
        alone = nn.ModuleDict({"layer": copy.deepcopy(module)})
        strategy(strength).attach(alone, ["layer"], FLOAT32)
        constraint = constraints(alone).get("layer")
        with torch.no_grad():
            if constraint is None or seen is None:
                weight.copy_(cast(Tensor, alone["layer"].weight))
                return
            geometry = Geometry.of(module)
            rows = geometry.rows(weight.detach())
            second = seen.second if module.bias is None else seen.covariance
            coded = solve(rows, second, geometry, constraint, weight).weight
            lost = rows - geometry.rows(coded)
            weight.copy_(coded)
            if isinstance(module.bias, Tensor) and not geometry.transposed:
                module.bias += geometry.per_output(lost * seen.mean.unsqueeze(1))
    return compress
