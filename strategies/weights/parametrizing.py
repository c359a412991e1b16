"""Parametrizations of ``weight``: finding, advancing and baking them in."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class StraightThrough(torch.autograd.Function):
    """Forward the constrained value bit for bit, backward to the latent one unchanged."""

    @staticmethod
    def forward(context: Any, latent: Tensor, constrained: Tensor) -> Tensor:
        return constrained

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        return gradients[0], None


def straight_through(latent: Tensor, constrained: Tensor) -> Tensor:
    """``constrained`` with the gradient of ``latent`` (Bengio et al. 2013)."""
    return cast(Tensor, StraightThrough.apply(latent, constrained))  # type: ignore[no-untyped-call]


def parametrizations(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(module path, parametrization) of every parametrized weight, in order of application."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            chain = cast(nn.ModuleDict, module.parametrizations)["weight"]
            for part in cast(nn.ModuleList, chain):
                yield name, part


def weight_scales(model: nn.Module) -> dict[str, Tensor]:
    """``{"<module path>.weight": (output channels,) scales}`` of the layers whose weights lie on
    the grid of an integer format: those of every parametrization with a ``grid_scale()``."""
    found = {}
    for name, part in parametrizations(model):
        scale_of = getattr(part, "grid_scale", None)
        scale = scale_of() if callable(scale_of) else None
        if isinstance(scale, Tensor):
            found[f"{name}.weight"] = scale
    return found


@dataclass(frozen=True)
class Promise:
    """What the exported weight of a layer holds: at most ``values`` distinct numbers, of
    ``weight / scale`` where it has a scale per output channel, and zero where ``zeros`` is True."""

    values: int | None = None
    scale: Tensor | None = None
    zeros: Tensor | None = None


def promises(model: nn.Module) -> dict[str, list[Promise]]:
    """By ``"<module path>.weight"``, of every parametrization with a ``promise()``."""
    found: dict[str, list[Promise]] = {}
    for name, part in parametrizations(model):
        promise_of = getattr(part, "promise", None)
        promise = promise_of() if callable(promise_of) else None
        if isinstance(promise, Promise):
            found.setdefault(f"{name}.weight", []).append(promise)
    return found


def advance(model: nn.Module, progress: float) -> None:
    """Call ``advance(progress)`` of every parametrization that has it; progress is 0..1."""
    for _, part in parametrizations(model):
        step = getattr(part, "advance", None)
        if callable(step):
            step(progress)


def bake(module: nn.Module, trained: bool = False) -> None:
    """Plain tensors in the place of what parametrizations of ``module`` compute. torch's
    ``remove_parametrizations`` would delete the property from the class, which a deep copy shares
    with its original."""
    constrained = cast(Any, module).parametrizations
    values = {name: getattr(module, name).detach().clone() for name in constrained}
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    for name, value in values.items():
        # A chain may hold several tensors, such as the two of weight normalization.
        if list(constrained[name].parameters(recurse=False)):
            module.register_parameter(name, nn.Parameter(value, requires_grad=trained))
        else:
            module.register_buffer(name, value)
