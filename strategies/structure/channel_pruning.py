"""Channel pruning: whole output channels go, with everything that depended on them."""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch_pruning
from torch import Tensor, nn

from strategies.base import Layer, Limits, StrategyError, StructureStrategy, Suggester, within
from strategies.signature import named_outputs


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
        "never the outputs of the last layer; refuses graphs that split, slice or reorder channels")
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("model", "convolutions", "fully_connected")

    keep_ratio: float
    round_to: int = 4

    def __post_init__(self) -> None:
        within(self.name, "keep_ratio", self.keep_ratio, 1e-4, 1.0)
        within(self.name, "round_to", self.round_to, 1, 1024)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.keep_ratio", 0.05, 0.7)
        return cls(suggester.suggest_float("keep_ratio", low, high, log=True))

    def kept(self, channels: int) -> int:
        """How many of ``channels`` outputs stay."""
        grain = self.round_to if channels >= 2 * self.round_to else 1
        if self.keep_ratio == 1.0:
            return channels
        wanted = round(channels * self.keep_ratio / grain) * grain
        return min(max(wanted, grain), channels)

    def apply(self, model: nn.Module, layers: Sequence[str],
              example_inputs: tuple[Tensor, ...]) -> nn.Module:
        """See ``strategies.base.StructureStrategy``."""
        modules = dict(model.named_modules())
        weighted = [m for m in modules.values() if isinstance(m, nn.Conv2d | nn.Linear)]
        chosen = [modules[name] for name in layers if modules[name] is not weighted[-1]]
        wanted = {module: self.kept(_outputs(module)) for module in chosen}
        if all(count == _outputs(module) for module, count in wanted.items()):
            raise self._nothing(layers)
        model.eval()
        try:
            before = _all_shapes(model, example_inputs)
            pruned = self._prune(model, weighted[-1], wanted, example_inputs)
            after = _all_shapes(model, example_inputs)
        except (RuntimeError, IndexError, ValueError, KeyError, AttributeError,
                AssertionError, TypeError) as error:
            raise StrategyError(f"channel_pruning cannot follow the channels of this graph: "
                                f"{type(error).__name__}: {error}", "unsupported_graph") from error
        if after != before:
            raise StrategyError(f"channel_pruning changed the shapes of the outputs from {before} "
                                f"to {after}.", "unsupported_graph")
        if not pruned:
            raise self._nothing(layers)
        return model

    def _nothing(self, layers: Sequence[str]) -> StrategyError:
        return StrategyError(f"channel_pruning with keep_ratio {self.keep_ratio:g} removes no "
                             f"channel of {', '.join(layers)}.", "nothing_to_do")

    def _prune(self, model: nn.Module, last: nn.Module, wanted: dict[nn.Module, int],
               example_inputs: tuple[Tensor, ...]) -> int:
        """Number of groups that lost channels."""
        graph = torch_pruning.DependencyGraph().build_dependency(
            model, example_inputs,
            forward_fn=_with_auxiliary if _auxiliary(model, example_inputs) else None)
        precision = _precision(model, example_inputs)
        importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        pruned = 0
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
            reference = _silenced(model, final, precision)
            final.prune()
            pruned += 1
            if not _agree(model, reference, example_inputs, precision):
                raise ValueError(f"the channels after {module} are sliced, split or reordered, so "
                                 "that removing some would feed others to the wrong weights")
        return pruned


def _all_shapes(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[dict[str, tuple[int, ...]]]:
    """The shapes of the outputs in evaluation and, where there are more of them, in training."""
    auxiliary = _auxiliary(model, inputs)
    return [_shapes(model(*inputs)), *([auxiliary] if auxiliary else [])]


def _auxiliary(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of the outputs in training where they are other outputs than in evaluation, for
    example those of auxiliary classifiers: their layers read channels, too."""
    try:
        with torch.no_grad(), _training(model):
            found = _shapes(model(*inputs))
    except Exception:  # noqa: BLE001  a forward for training may need targets
        return {}
    return found if found.keys() != _shapes(model(*inputs)).keys() else {}


def _with_auxiliary(model: nn.Module, inputs: tuple[Tensor, ...]) -> object:
    with _training(model):
        return model(*inputs)


@contextlib.contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    """Modules with children are in training mode inside; normalization and dropout, which have
    none, stay as they are."""
    composed = [module for module in model.modules() if any(module.children())]
    with torch.random.fork_rng(devices=[]):
        for module in composed:
            module.training = True
        try:
            yield
        finally:
            for module in composed:
                module.training = False


def _shapes(returned: object) -> dict[str, tuple[int, ...]]:
    return {name: tuple(output.shape) for name, output in named_outputs(returned).items()}


def _outputs(module: nn.Module) -> int:
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    assert isinstance(module, nn.Linear)
    return module.out_features


INPUT_HANDLERS = (torch_pruning.prune_conv_in_channels, torch_pruning.prune_linear_in_channels)
ACROSS_CHANNELS = (nn.GroupNorm, nn.LayerNorm)


def _precision(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> torch.dtype:
    """float64, or the model's own type where its forward fixes that."""
    try:
        with torch.no_grad():
            copy.deepcopy(model).double()(*_noise(example_inputs, torch.float64))
    except RuntimeError:
        return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return torch.float64


def _noise(example_inputs: tuple[Tensor, ...], precision: torch.dtype) -> list[Tensor]:
    source = torch.Generator().manual_seed(0)
    return [torch.rand(tensor.shape, generator=source, dtype=precision)
            if tensor.is_floating_point() else tensor for tensor in example_inputs]


def _silenced(model: nn.Module, group: Any, precision: torch.dtype) -> nn.Module:
    """A copy of ``model`` in ``precision`` whose channels of ``group`` (torch_pruning's) are zero
    and are not read: removing them must give the same."""
    names = {module: name for name, module in model.named_modules()}
    silenced = copy.deepcopy(model).to(precision)
    with torch.no_grad():
        for item in group:
            module = item.dep.target.module
            if module not in names or not isinstance(getattr(module, "weight", None), Tensor):
                continue
            twin: Any = silenced.get_submodule(names[module])
            reads = item.dep.handler in INPUT_HANDLERS
            if not reads or getattr(twin, "groups", 1) == 1:
                # A table of embeddings has its channels on axis 1, as a transposed weight.
                turned = isinstance(twin, nn.Embedding) or getattr(twin, "transposed", False)
                axis = int(reads) ^ int(turned)
                twin.weight.index_fill_(axis, torch.tensor(item.idxs), 0)
            if reads:
                continue
            if getattr(twin, "bias", None) is not None:
                twin.bias[item.idxs] = 0
    return silenced


def _agree(model: nn.Module, reference: nn.Module, example_inputs: tuple[Tensor, ...],
           precision: torch.dtype) -> bool:
    """Whether both compute the same; not asked where a norm spans channels, for its statistics
    change with the number of channels."""
    if any(isinstance(module, ACROSS_CHANNELS) for module in model.modules()):
        return True
    noise = _noise(example_inputs, precision)
    with torch.no_grad():
        wanted = named_outputs(reference(*noise))
        found = named_outputs(copy.deepcopy(model).to(precision)(*noise))
    return all(_close(found[name], output) for name, output in wanted.items())


def _close(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape or not wanted.is_floating_point():
        return torch.equal(found, wanted)
    exact = 1e-9 if wanted.dtype == torch.float64 else 1e-4
    limit = exact * max(float(wanted.abs().max()), 1e-30)
    return float((found - wanted).abs().max()) <= limit
