"""BatchNorm folded into the layer before it: weights are constrained as the file holds them.

A BatchNorm in evaluation mode scales and shifts each channel: after a convolution or linear layer
it is the same as other weights and another bias (Jacob et al. 2018, section 3.2).
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from strategies.base import StrategyError
from strategies.dataflow import DataFlow, evaluating, follow
from strategies.tensor_trees import leaves
from strategies.weights.parametrizing import bake

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
FOLDABLE = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
FORWARDS = {cls.forward for cls in FOLDABLE}
TOLERANCE = 1e-5
"""Of the largest output: folding rounds weights to float32 once more."""


def fold_batchnorm(model: nn.Module, example_inputs: Sequence[Tensor]) -> nn.Module:
    """A copy of ``model`` in which every BatchNorm that alone reads the output of one convolution,
    transposed convolution or linear layer is folded into it and ``nn.Identity`` stands in its
    place. Other layers keep their names; what cannot be folded stays as it is.

    ``example_inputs`` holds one tensor for each argument of ``forward``; on them the copy gives
    what ``model`` gives in evaluation mode, or a fold is undone. Raises
    StrategyError(``impossible_order``) where the weight is already constrained by a step of a
    recipe, ``unsupported_graph`` when the model cannot be run.
    """
    pairs = foldable(model, follow(model, example_inputs))
    folded = _folded(model, pairs)
    if not pairs or _agree(model, folded, example_inputs):
        return folded
    held: list[tuple[str, str]] = []
    for pair in pairs:
        if _agree(model, _folded(model, [*held, pair]), example_inputs):
            held.append(pair)
    return _folded(model, held)


def foldable(model: nn.Module, flow: DataFlow) -> list[tuple[str, str]]:
    """(layer, BatchNorm) by path, in order of execution, as far as ``flow`` tells."""
    modules = dict(model.named_modules())
    owners = _owners(model)
    made = {calls[0].outputs[0]: name for name, calls in flow.calls.items()
            if len(calls) == 1 and len(calls[0].outputs) == 1
            and type(modules[name]).forward in FORWARDS}
    pairs = []
    for name, calls in flow.calls.items():
        norm = modules[name]
        if not (isinstance(norm, _BatchNorm) and type(norm).forward in _norm_forwards()
                and len(calls) == 1 and calls[0].inputs and norm.running_mean is not None):
            continue
        layer = made.get(calls[0].inputs[0])
        if (layer is not None and _is_alone(flow, layer, name)
                and _channels_agree(flow, layer, modules[layer], norm)
                and all(len(owners[id(p)]) == 1 for p in modules[layer].parameters())):
            pairs.append((layer, name))
    return pairs


def _norm_forwards() -> set[object]:
    return {_BatchNorm.forward, nn.SyncBatchNorm.forward}


def _owners(model: nn.Module) -> dict[int, set[int]]:
    """The modules that hold each parameter, by identity."""
    found: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                found.setdefault(id(parameter), set()).add(id(module))
    return found


def _is_alone(flow: DataFlow, layer: str, norm: str) -> bool:
    """Whether only ``norm`` reads what ``layer`` gives, and nothing writes into it."""
    (producer,), (reader,) = flow.calls[layer], flow.calls[norm]
    place = producer.output_storages
    if place & flow.outputs:
        return False
    weights = {f"{layer}.weight", f"{layer}.bias"}
    for index, operator in enumerate(flow.operators):
        inside = (producer.first <= index < producer.end or reader.first <= index < reader.end)
        if not inside and (place & (operator.reads | operator.writes)
                           or weights & operator.constants):
            return False
    return True


def _channels_agree(flow: DataFlow, layer: str, module: nn.Module, norm: _BatchNorm) -> bool:
    """Whether the axis that the norm scales is that of the layer's output channels."""
    (dims,) = flow.calls[layer][0].output_dims
    if isinstance(module, nn.Linear):
        return dims == 2 and module.out_features == norm.num_features
    convolution = cast(nn.Conv2d, module)
    return (dims == len(convolution.kernel_size) + 2
            and convolution.out_channels == norm.num_features)


def _folded(model: nn.Module, pairs: Sequence[tuple[str, str]]) -> nn.Module:
    folded = copy.deepcopy(model)
    for layer, norm in pairs:
        module = folded.get_submodule(layer)
        _free_of_parametrizations(module, layer, norm)
        gone = cast(_BatchNorm, folded.get_submodule(norm))
        _fold(cast(Any, module), gone)
        for parent in list(folded.modules()):
            for child, known in parent._modules.items():
                if known is gone:
                    parent._modules[child] = nn.Identity().train(gone.training)
    return folded


def _free_of_parametrizations(module: nn.Module, layer: str, norm: str) -> None:
    """Bake in torch's own ones (weight norm, spectral norm); refuse those of a recipe."""
    if not parametrize.is_parametrized(module):
        return
    chains = cast(nn.ModuleDict, module.parametrizations)
    for name in list(chains):
        parts = [type(part) for part in cast(nn.ModuleList, chains[name])]
        foreign = [part for part in parts if not part.__module__.startswith("torch.nn.utils")]
        if foreign:
            raise StrategyError(
                f"BatchNorm {norm} cannot be folded into {layer}: {foreign[0].__name__} already "
                f"constrains its {name}. Fold before weights are constrained.",
                "impossible_order")
    bake(module, trained=any(p.requires_grad for p in module.parameters()))


def _fold(layer: Any, norm: _BatchNorm) -> None:
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    with torch.no_grad():
        factor = (variance.double() + norm.eps).rsqrt()
        shift = torch.zeros_like(factor)
        if norm.weight is not None:
            factor = factor * norm.weight.double()
        if norm.bias is not None:
            shift = norm.bias.double()
        before = 0.0 if layer.bias is None else layer.bias.double()
        bias = (before - mean.double()) * factor + shift
        weight = _scaled(layer, factor)
    trained = layer.weight.requires_grad
    layer.weight = nn.Parameter(weight.to(layer.weight), requires_grad=trained)
    layer.bias = nn.Parameter(bias.to(layer.weight), requires_grad=trained)


def _scaled(layer: Any, factor: Tensor) -> Tensor:
    """The weight in float64 with each output channel times its ``factor``."""
    weight = cast(Tensor, layer.weight).detach().double()
    if not isinstance(layer, TRANSPOSED):
        return weight * factor.view(-1, *[1] * (weight.dim() - 1))
    # (inputs, outputs of a group, *kernel): the group of an input decides which outputs it has
    grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
    of_group = factor.view(layer.groups, 1, -1, *[1] * (weight.dim() - 2))
    return (grouped * of_group).reshape(weight.shape)


def _agree(model: nn.Module, folded: nn.Module, example_inputs: Sequence[Tensor]) -> bool:
    """Whether both give the same on ``example_inputs``, in float64 where the model can."""
    for exact in (True, False):
        try:
            wanted = _outputs(model, example_inputs, exact)
        except Exception:  # noqa: BLE001  a user's model may insist on its type
            continue
        try:
            found = _outputs(folded, example_inputs, exact)
        except Exception:  # noqa: BLE001  it may read something of its BatchNorm
            return False
        return len(wanted) == len(found) and all(map(_close, wanted, found))
    return False


def _outputs(model: nn.Module, inputs: Sequence[Tensor], exact: bool) -> list[Tensor]:
    ready = copy.deepcopy(model).double() if exact else model
    given = [tensor.double() if exact and tensor.is_floating_point() else tensor.clone()
             for tensor in inputs]
    with evaluating(ready):
        return list(leaves(ready(*given)))


def _close(wanted: Tensor, found: Tensor) -> bool:
    if wanted.shape != found.shape or not wanted.is_floating_point():
        return torch.equal(wanted, found)
    largest = float(wanted.abs().max()) if wanted.numel() else 0.0
    difference = float((wanted - found).abs().max()) if wanted.numel() else 0.0
    return difference <= TOLERANCE * max(largest, 1e-30)
