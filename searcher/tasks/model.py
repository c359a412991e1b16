"""The user's model: made, copied, and what follows from it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from searcher.errors import TaskError
from searcher.tasks.data.seeding import kept_generators, seed_generators
from searcher.tasks.user_code import described, user_code


@dataclass(frozen=True)
class BaselineTraining:
    """Cosine cycles, their ends averaged, until one of them raises the validation metric by less
    than ``tolerance``."""

    learning_rate: float = 2e-3
    cycle_epochs: int = 10
    max_epochs: int = 60
    tolerance: float = 0.001


def made(model: nn.Module | Callable[[], nn.Module], seed: int | None = None) -> nn.Module:
    """The module itself, or what the function makes, with ``seed`` under fixed random numbers.
    Raises TaskError."""
    if isinstance(model, nn.Module):
        return model
    if seed is not None:
        with kept_generators():
            seed_generators(seed)
            return made(model)
    with user_code(f"model: {_name(model)}()", "It must make the model without arguments."):
        found = model()
    if not isinstance(found, nn.Module):
        raise TaskError(f"model: {_name(model)}() gave {described(found)}, expected a "
                        "torch.nn.Module.")
    return found


def own_copy(module: nn.Module) -> nn.Module:
    """A deep copy in the host's memory. Where no weight is trainable, all of the copy are: a
    compressed model is trained to recover. Raises TaskError for a module that cannot be copied."""
    with user_code(f"model: {type(module).__name__} cannot be copied",
                   "Give a function that makes it."):
        copied = copy.deepcopy(module).cpu()
    if not any(parameter.requires_grad for parameter in copied.parameters()):
        for parameter in copied.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    return copied


def precision_of(module: nn.Module) -> torch.dtype:
    """The floating point type of the module's parameters and buffers, float32 without any."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return tensor.dtype
    return torch.float32


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
