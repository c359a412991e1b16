"""Groups of channels that can only go together, found by torch-pruning, and the proof that a graph
computes without them what it computed with them at zero."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch_pruning
from torch import Tensor, nn

from strategies.dataflow import CONTRACTIONS, DataFlow, evaluating
from strategies.layers import WEIGHTED
from strategies.structure.auxiliary import Shapes, auxiliary_shapes, with_auxiliary
from strategies.tensor_trees import leaves

INPUT_HANDLERS = (torch_pruning.prune_conv_in_channels, torch_pruning.prune_linear_in_channels)
REORDERING = {
    "split": "split or chunk", "split_with_sizes": "split", "slice": "slice", "select": "select",
    "unbind": "unbind", "index": "index", "index_select": "index_select", "narrow": "narrow",
    "gather": "gather", "flip": "flip", "roll": "roll", "view": "view or reshape",
    "_unsafe_view": "view or reshape", "reshape": "reshape", "pixel_shuffle": "pixel_shuffle",
    "pixel_unshuffle": "pixel_unshuffle", "as_strided": "as_strided", "unfold": "unfold",
    "channel_shuffle": "channel_shuffle", "native_channel_shuffle": "channel_shuffle",
    "_softmax": "softmax", "bmm": "matmul", "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm", "cat": "cat", "cumsum": "cumsum",
    "sort": "sort", "topk": "topk"}
"""Operators that may give channels another place or mix them, and their names in Python."""
MOST_NAMED = 4


class Unfollowable(Exception):
    """Channels that cannot be removed; the text says why."""


@dataclass(frozen=True)
class ChannelGroups:
    """The groups of ``model`` as it is. Removing one changes ``model``; after ``Unfollowable`` it
    may be broken."""

    model: nn.Module
    example_inputs: tuple[Tensor, ...]
    graph: Any
    names: Mapping[nn.Module, str]
    auxiliary: Shapes
    precision: torch.dtype

    @classmethod
    def of(cls, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> "ChannelGroups":
        """Raises Unfollowable."""
        with _traced(model), _explained():
            auxiliary = auxiliary_shapes(model, example_inputs)
            graph = torch_pruning.DependencyGraph().build_dependency(
                model, example_inputs, verbose=False,
                forward_fn=with_auxiliary if auxiliary else lambda m, given: m(*given),
                output_transform=lambda out: [x for x in leaves(out) if x.grad_fn is not None])
        return cls(model, example_inputs, graph,
                   {module: name for name, module in model.named_modules()}, auxiliary,
                   _precision(model, example_inputs))

    def producing(self, layer: str) -> set[str]:
        """The layers whose output channels go with those of ``layer``, itself among them.
        Raises Unfollowable."""
        with _explained():
            group = self._group(self.model.get_submodule(layer))
            return {name for name, _ in self._cut(group)}

    def remove(self, layer: str, keep: int) -> dict[str, set[int]]:
        """Leave ``layer`` about ``keep`` output channels, those of largest group norm; what other
        layers lost with them, by path. Raises Unfollowable."""
        module = self.model.get_submodule(layer)
        with _traced(self.model), _explained():
            fewest = self._fewest(self._group(module), outputs_of(module) - keep)
            if not fewest:
                return {}
            group = self._group(module, fewest)
            if not self.graph.check_pruning_group(group):
                raise Unfollowable(f"{len(fewest)} of its channels cannot be removed")
            cut = {name: set(channels) for name, channels in self._cut(group)}
            reference = self._silenced(group)
            group.prune()
            agree = _agree(self.model, reference, self.example_inputs, self.precision) and (
                auxiliary_shapes(self.model, self.example_inputs) == self.auxiliary)
        if not agree:
            raise Unfollowable("its channels are sliced, split or reordered on their way, so that "
                               "removing some would feed others to the wrong weights")
        return cut

    def _group(self, module: nn.Module, channels: Sequence[int] | None = None) -> Any:
        prune = (torch_pruning.prune_linear_out_channels if isinstance(module, nn.Linear)
                 else torch_pruning.prune_conv_out_channels)
        wanted = list(range(outputs_of(module)) if channels is None else channels)
        return self.graph.get_pruning_group(module, prune, wanted)

    def _cut(self, group: Any) -> Iterator[tuple[str, Sequence[int]]]:
        for item in group:
            module = item.dep.target.module
            if isinstance(module, WEIGHTED) and item.dep.handler not in INPUT_HANDLERS:
                yield self.names[module], item.idxs

    def _fewest(self, group: Any, surplus: int) -> list[int]:
        """The channels to remove; of a layer in groups the same in each group, so that they stay
        with the weights of their group."""
        scores = torch_pruning.importance.GroupMagnitudeImportance(p=2)(group)
        parts = max([1, *(_parts(item.dep.target.module) for item in group)])
        if parts > 1 and len(scores) % parts == 0:
            width = len(scores) // parts
            mean = scores.view(parts, width).mean(0)
            local = torch.argsort(mean, stable=True)[: min(surplus // parts, width - 1)]
            return sorted((local + width * torch.arange(parts)[:, None]).flatten().tolist())
        return sorted(torch.argsort(scores, stable=True)[:surplus].tolist())

    def _silenced(self, group: Any) -> nn.Module:
        """A copy of the model in ``precision`` whose channels of ``group`` are zero and are not
        read: removing them must give the same."""
        silenced = copy.deepcopy(self.model).to(self.precision)
        with torch.no_grad():
            for item in group:
                module = item.dep.target.module
                if module in self.names:
                    _silence(silenced, self.names[module], item.idxs,
                             item.dep.handler in INPUT_HANDLERS)
        return silenced


def outputs_of(module: nn.Module) -> int:
    """The number of output channels of a weighted layer."""
    return cast(int, module.out_features if isinstance(module, nn.Linear)
                else module.out_channels)


def _parts(module: Any) -> int:
    """In how many groups a layer treats its channels; a depthwise one has no such groups."""
    if isinstance(module, nn.GroupNorm):
        return module.num_groups if module.num_groups < module.num_channels else 1
    if isinstance(module, WEIGHTED) and not isinstance(module, nn.Linear):
        return module.groups if module.groups < module.out_channels else 1
    return 1


def _silence(model: nn.Module, name: str, channels: Sequence[int], reads: bool) -> None:
    twin: Any = model.get_submodule(name)
    if type(twin) in (nn.LayerNorm, nn.GroupNorm):
        parent, _, child = name.rpartition(".")
        model.get_submodule(parent)._modules[child] = _OverKept(twin, channels)
        return
    if not isinstance(getattr(twin, "weight", None), Tensor):
        return
    if not reads or getattr(twin, "groups", 1) == 1:
        axis = int(reads) ^ int(getattr(twin, "transposed", False) or isinstance(
            twin, nn.Embedding))
        twin.weight.index_fill_(axis, torch.tensor(channels), 0)
    if not reads and getattr(twin, "bias", None) is not None:
        twin.bias[channels] = 0


class _OverKept(nn.Module):
    """A norm that spans channels, over those that are not ``gone``; these are zero after it."""

    def __init__(self, norm: Any, gone: Sequence[int]) -> None:
        super().__init__()
        self.norm = norm
        self.axis = 1 if isinstance(norm, nn.GroupNorm) else -1
        size = norm.num_channels if self.axis == 1 else norm.normalized_shape[-1]
        self.kept = torch.tensor([i for i in range(size) if i not in set(gone)])

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (None if p is None else p[self.kept]
                        for p in (self.norm.weight, self.norm.bias))
        part = x.index_select(self.axis, self.kept)
        if self.axis == 1:
            done = nn.functional.group_norm(part, self.norm.num_groups, weight, bias,
                                            self.norm.eps)
        else:
            done = nn.functional.layer_norm(part, (len(self.kept),), weight, bias, self.norm.eps)
        return torch.zeros_like(x).index_copy(self.axis, self.kept, done)


def _precision(model: nn.Module, example_inputs: Sequence[Tensor]) -> torch.dtype:
    """float64, or the model's own type where its forward fixes that."""
    exact = copy.deepcopy(model).double()
    try:
        with evaluating(exact):
            exact(*_noise(example_inputs, torch.float64))
    except RuntimeError:
        return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return torch.float64


def _noise(example_inputs: Sequence[Tensor], precision: torch.dtype) -> list[Tensor]:
    source = torch.Generator().manual_seed(0)
    return [torch.rand(tensor.shape, generator=source, dtype=precision)
            if tensor.is_floating_point() else tensor.clone() for tensor in example_inputs]


def _agree(model: nn.Module, reference: nn.Module, example_inputs: Sequence[Tensor],
           precision: torch.dtype) -> bool:
    noise = _noise(example_inputs, precision)
    exact = copy.deepcopy(model).to(precision)
    with evaluating(reference), evaluating(exact):
        wanted = list(leaves(reference(*(tensor.clone() for tensor in noise))))
        found = list(leaves(exact(*noise)))
    return len(found) == len(wanted) and all(map(_close, found, wanted))


def _close(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape or not wanted.is_floating_point():
        return torch.equal(found, wanted)
    exact = 1e-9 if wanted.dtype == torch.float64 else 1e-4
    return float((found - wanted).abs().max()) <= exact * max(float(wanted.abs().max()), 1e-30)


@contextlib.contextmanager
def _traced(model: nn.Module) -> Iterator[None]:
    """Within, every parameter asks for a gradient: torch-pruning follows those."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    try:
        with evaluating(model), torch.enable_grad():
            yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen and parameter.is_floating_point())


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What torch-pruning or the pruned model raises says that the channels cannot be followed."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError, KeyError, AttributeError, AssertionError,
            TypeError, ZeroDivisionError) as error:
        raise Unfollowable("its channels cannot be followed: "
                           f"{type(error).__name__}: {error}") from error


def reordering(flow: DataFlow, model: nn.Module, layer: str) -> tuple[str, ...]:
    """The first operators that may give the output channels of ``layer`` another place, each with
    the module that runs it: what stands between it and the next weights."""
    made = {place for call in flow.calls.get(layer, ()) for place in call.output_storages}
    begin = min((call.end for call in flow.calls.get(layer, ())), default=0)
    found = []
    for operator in flow.operators[begin:]:
        if not operator.reads & made:
            continue
        if operator.name in REORDERING:
            found.append(
                f"{REORDERING[operator.name]} in {operator.module or type(model).__name__}")
        if not (operator.constants and operator.name in CONTRACTIONS):
            made |= operator.writes
    return tuple(dict.fromkeys(found))[:MOST_NAMED]
