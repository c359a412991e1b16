"""Channel pruning: whole output channels go, with everything that depended on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch_pruning
from torch import Tensor, nn

from strategies.base import Layer, Limits, StrategyError, Suggester, within


@dataclass(frozen=True)
class ChannelPruning:
    """Keep the ``keep_ratio`` channels of largest group norm, a multiple of ``round_to``.

    Layers narrower than twice ``round_to`` are rounded to one channel instead.
    """

    name: ClassVar[str] = "channel_pruning"
    stage: ClassVar[str] = "structure"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "removes whole channels of least group norm, with all that uses them"
    paper: ClassVar[str] = (
        "Li et al. 2017, Pruning Filters for Efficient ConvNets; Fang et al. 2023, DepGraph")
    limits_text: ClassVar[str] = (
        "never the outputs of the last layer; refuses graphs that split or slice channels")
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("convolutions", "fully_connected")

    keep_ratio: float
    round_to: int = 4

    def __post_init__(self) -> None:
        within(self.name, "keep_ratio", self.keep_ratio, 1e-4, 1.0)
        within(self.name, "round_to", self.round_to, 1, 1024)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer],
                limits: Limits) -> "ChannelPruning":
        low, high = limits.range(f"{cls.name}.keep_ratio", 0.05, 0.8)
        return cls(suggester.suggest_float("keep_ratio", low, high, log=True))

    def kept(self, channels: int) -> int:
        """How many of ``channels`` outputs stay."""
        grain = self.round_to if channels >= 2 * self.round_to else 1
        wanted = round(channels * self.keep_ratio / grain) * grain
        return min(max(wanted, grain), channels)

    def apply(self, model: nn.Module, layers: Sequence[str], example_input: Tensor) -> nn.Module:
        """See ``strategies.base.StructureStrategy``."""
        modules = dict(model.named_modules())
        weighted = [m for m in modules.values() if isinstance(m, nn.Conv2d | nn.Linear)]
        chosen = [modules[name] for name in layers if modules[name] is not weighted[-1]]
        wanted = {module: self.kept(_outputs(module)) for module in chosen}
        if all(count == _outputs(module) for module, count in wanted.items()):
            raise StrategyError(f"channel_pruning with keep_ratio {self.keep_ratio:g} removes no "
                                f"channel of {', '.join(layers)}.", "nothing_to_do")
        model.eval()
        try:
            before = model(example_input).shape
            self._prune(model, weighted[-1], wanted, example_input)
            after = model(example_input).shape
        except (RuntimeError, IndexError, ValueError, KeyError, AttributeError,
                AssertionError, TypeError) as error:
            raise StrategyError(f"channel_pruning cannot follow the channels of this graph: "
                                f"{type(error).__name__}: {error}", "unsupported_graph") from error
        if after != before:
            raise StrategyError(f"channel_pruning changed the output from {tuple(before)} to "
                                f"{tuple(after)}.", "unsupported_graph")
        return model

    def _prune(self, model: nn.Module, last: nn.Module, wanted: dict[Any, int],
               example_input: Tensor) -> None:
        graph = torch_pruning.DependencyGraph().build_dependency(model, example_input)
        importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        for module, keep in wanted.items():
            surplus = _outputs(module) - keep
            if surplus <= 0:
                continue
            prune = (torch_pruning.prune_conv_out_channels if isinstance(module, nn.Conv2d)
                     else torch_pruning.prune_linear_out_channels)
            group = graph.get_pruning_group(module, prune, list(range(_outputs(module))))
            if any(item.dep.target.module is last and item.dep.handler in (
                    torch_pruning.prune_linear_out_channels,
                    torch_pruning.prune_conv_out_channels) for item in group):
                continue
            scores = importance(group)
            fewest = torch.argsort(scores, stable=True)[:surplus].tolist()
            final = graph.get_pruning_group(module, prune, sorted(fewest))
            if not graph.check_pruning_group(final):
                raise ValueError(f"{surplus} channels of {module} cannot be removed")
            final.prune()


def _outputs(module: Any) -> int:
    count = module.out_channels if isinstance(module, nn.Conv2d) else module.out_features
    return int(count)
