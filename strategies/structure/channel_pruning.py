"""Channel pruning: whole output channels go, with everything that depended on them."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, cast

from torch import Tensor, nn

from strategies.base import (
    Layer,
    Limits,
    Restructured,
    StrategyError,
    Strength,
    StructureStrategy,
    Suggester,
    within,
)
from strategies.dataflow import follow
from strategies.layers import weighted
from strategies.structure.channel_groups import (
    ChannelGroups,
    Unfollowable,
    outputs_of,
    reordering,
)


@dataclass(frozen=True)
class ChannelPruning(StructureStrategy):
    """Keep the ``keep_ratio`` channels of largest group norm, a multiple of ``round_to``.

    Layers narrower than twice ``round_to`` are rounded to one channel instead.
    """

    name: ClassVar[str] = "channel_pruning"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "removes whole channels of least group norm, with all that uses them"
    paper: ClassVar[str] = (
        "Li et al. 2017, Pruning Filters for Efficient ConvNets; Fang et al. 2023, DepGraph")
    limits_text: ClassVar[str] = (
        "never the outputs of the model; leaves channels that are split, sliced or reordered")
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("model", "convolutions", "fully_connected")
    by_layer: ClassVar[Mapping[str, type[int] | type[float]]] = {"keep_ratio": float}
    levels: ClassVar[tuple[float, ...]] = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)

    keep_ratio: Strength
    round_to: int = 4

    def __post_init__(self) -> None:
        within(self.name, "keep_ratio", self.keep_ratio, 1e-4, 1.0)
        within(self.name, "round_to", self.round_to, 1, 1024)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.keep_ratio", 0.05, 0.7)
        return cls(suggester.suggest_float("keep_ratio", low, high, log=True))

    def kept(self, channels: int, layer: str = "") -> int:
        """How many of ``channels`` outputs of ``layer`` stay."""
        ratio = cast(float, self.of_layer(layer).keep_ratio)
        grain = self.round_to if channels >= 2 * self.round_to else 1
        if ratio == 1.0:
            return channels
        wanted = round(channels * ratio / grain) * grain
        return min(max(wanted, grain), channels)

    def changes(self, layer: Layer) -> bool:
        """See ``strategies.base.Strategy``."""
        width = layer.weight_shape[0]
        return not layer.output and self.kept(width, layer.name) < width

    def apply(self, model: nn.Module, layers: Sequence[str],
              example_inputs: tuple[Tensor, ...]) -> nn.Module:
        """See ``strategies.base.StructureStrategy``."""
        return self.restructure(model, layers, example_inputs).model

    def restructure(self, model: nn.Module, layers: Sequence[str],
                    example_inputs: tuple[Tensor, ...]) -> Restructured:
        """See ``strategies.base.StructureStrategy``. Layers whose channels cannot be followed are
        left as they are; only when that leaves nothing it is ``unsupported_graph``."""
        flow = follow(model.eval(), example_inputs)
        outputs = flow.producers(model, weighted(model))
        left: dict[str, str] = {}
        for name in layers:
            reason = ("its channels are outputs of the model" if name in outputs
                      else flow.untouchable(model, name))
            left |= {name: reason} if reason else {}
        wanted = {name: self.kept(outputs_of(model.get_submodule(name)), name)
                  for name in layers if name not in left}
        if all(keep == outputs_of(model.get_submodule(name)) for name, keep in wanted.items()):
            raise self._nothing(layers, left)
        kept: dict[str, tuple[int, ...]] = {}
        unfollowed: dict[str, str] = {}
        groups: ChannelGroups | None = None
        for name, keep in wanted.items():
            before = copy.deepcopy(model)
            try:
                groups = groups or ChannelGroups.of(model, example_inputs)
                tied = sorted(groups.producing(name) & outputs)
                if tied:
                    left[name] = f"its channels are those of {', '.join(tied)}, model outputs"
                elif outputs_of(model.get_submodule(name)) > keep:
                    _note(kept, before, groups.remove(name, keep))
            except Unfollowable as error:
                model, groups = before, None
                passed = reordering(flow, model, name)
                unfollowed[name] = f"{error}" + (f" ({', '.join(passed)})" if passed else "")
        if not kept and unfollowed:
            raise StrategyError(f"channel_pruning removes no channel: {_listed(unfollowed)}",
                                "unsupported_graph")
        if not kept:
            raise self._nothing(layers, left)
        return Restructured(model, kept, {**left, **unfollowed})

    def _nothing(self, layers: Sequence[str], left: Mapping[str, str]) -> StrategyError:
        why = f": {_listed(left)}" if left else "."
        ratio = "" if isinstance(self.keep_ratio, Mapping) else f" {self.keep_ratio:g}"
        return StrategyError(f"channel_pruning with keep_ratio{ratio} removes no "
                             f"channel of {', '.join(layers)}{why}", "nothing_to_do")


def _note(kept: dict[str, tuple[int, ...]], before: nn.Module,
          cut: Mapping[str, set[int]]) -> None:
    """Add to ``kept`` that ``cut`` of the channels that were there are gone."""
    for name, gone in cut.items():
        had = kept.get(name) or tuple(range(outputs_of(before.get_submodule(name))))
        kept[name] = tuple(channel for place, channel in enumerate(had) if place not in gone)


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) + "."
