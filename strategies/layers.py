"""The weighted layers of a model and the groups by which a recipe selects them."""

import difflib
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from strategies.base import Layer, StrategyError

KINDS: dict[type[nn.Module], str] = {nn.Conv2d: "convolution", nn.Linear: "fully_connected"}
GROUP_OF_KIND = {"convolution": "convolutions", "fully_connected": "fully_connected"}


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    """Convolutions and fully connected layers in the order of registration.

    Groups: ``model``, ``convolutions`` or ``fully_connected``, ``first``, ``last`` and the
    layer's own name. Layers that came from a replaced one are found under their new names.
    """
    found = [(name, module, kind) for name, module in model.named_modules()
             for cls, kind in KINDS.items() if isinstance(module, cls)]
    layers = []
    for index, (name, module, kind) in enumerate(found):
        groups = {"model", GROUP_OF_KIND[kind], name}
        groups |= {"first"} if index == 0 else set()
        groups |= {"last"} if index == len(found) - 1 else set()
        shape = tuple(cast(Tensor, module.weight).shape)
        layers.append(Layer(name, "convolution" if kind == "convolution" else "fully_connected",
                            shape, frozenset(groups)))
    return tuple(layers)


def select(layers: Sequence[Layer], group: str) -> list[str]:
    """Names of the layers in ``group``. Raises StrategyError(``unknown_layers``)."""
    chosen = [layer.name for layer in layers if group in layer.groups]
    if not chosen:
        known = sorted({g for layer in layers for g in layer.groups})
        close = difflib.get_close_matches(group, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
        raise StrategyError(f"No layer is in group {group!r}. {hint}", "unknown_layers")
    return chosen


def is_depthwise(module: nn.Module) -> bool:
    """Each filter reads one channel of several."""
    return (isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            and module.in_channels == module.groups > 1)
