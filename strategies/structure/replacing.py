"""Putting a module in the place of another one by its path."""

from collections.abc import Callable, Sequence

from torch import nn

from strategies.base import StrategyError


def replace_layers(
    model: nn.Module, layers: Sequence[str], substitute: Callable[[nn.Module], nn.Module | None],
    name: str,
) -> nn.Module:
    """Replace each layer by what ``substitute`` makes of it; None leaves it as it is.

    Raises StrategyError(``nothing_to_do``) when every layer was left.
    """
    replaced = 0
    for path in layers:
        parent_path, _, child = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        made = substitute(model.get_submodule(path))
        if made is not None:
            setattr(parent, child, made)
            replaced += 1
    if not replaced:
        raise StrategyError(f"{name} would make none of {', '.join(layers)} smaller.",
                            "nothing_to_do")
    return model


def weights_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())
