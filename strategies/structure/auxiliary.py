"""Outputs that a model has in training only, for example those of auxiliary classifiers: their
layers read channels, too."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from strategies.signature import named_outputs

Shapes = dict[str, tuple[int, ...]]


def auxiliary_shapes(model: nn.Module, inputs: tuple[Tensor, ...]) -> Shapes:
    """The shapes of the outputs in training where they are other outputs than in evaluation, else
    nothing. ``model`` is in evaluation mode."""
    try:
        with torch.no_grad():
            found = _shapes(with_auxiliary(model, inputs))
            usual = _shapes(model(*inputs))
    except Exception:  # noqa: BLE001  a forward for training may need targets
        return {}
    return found if found.keys() != usual.keys() else {}


def with_auxiliary(model: nn.Module, inputs: tuple[Tensor, ...]) -> object:
    """What ``model`` gives in training, with normalization and dropout as in evaluation."""
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


def _shapes(returned: object) -> Shapes:
    return {name: tuple(output.shape) for name, output in named_outputs(returned).items()}
