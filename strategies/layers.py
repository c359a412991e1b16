"""The weighted layers of a model and the groups by which a recipe selects them."""

import difflib
from collections.abc import Sequence
from typing import Any, Literal, cast

from torch import Tensor, nn

from strategies.base import Layer, StrategyError
from strategies.dataflow import DataFlow, follow

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
WEIGHTED = (*CONVOLUTIONS, nn.Linear)

Kind = Literal["convolution", "fully_connected"]


def layers_of(model: nn.Module, example_inputs: Sequence[Tensor] | None = None
              ) -> tuple[Layer, ...]:
    """Convolutions, transposed ones among them, and fully connected layers.

    With ``example_inputs`` (one tensor for each input of ``model``) they stand in order of
    execution, without those that the model does not use, and ``output`` tells which produce its
    outputs; otherwise in order of registration, where the last is taken for the output. A module
    of several names is one layer, under its first name.

    Groups: ``model``, ``convolutions`` or ``fully_connected``, ``depthwise``, ``pointwise``,
    ``first``, ``last`` and the layer's own name. Layers that came from a replaced one are found
    under their new names. Raises StrategyError(``unsupported_graph``) when the model cannot be run.
    """
    names = weighted(model)
    outputs = frozenset(names[-1:])
    if example_inputs is not None:
        flow = follow(model, example_inputs)
        names = executed(model, flow, names)
        outputs = flow.producers(model, names)
    return tuple(_layer(name, model.get_submodule(name), name == names[0], name == names[-1],
                        name in outputs) for name in names)


def weighted(model: nn.Module) -> list[str]:
    """Paths of the weighted layers, in order of registration."""
    return [name for name, module in model.named_modules() if isinstance(module, WEIGHTED)]


def executed(model: nn.Module, flow: DataFlow, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that the model uses, in order of execution."""
    uses = {name: flow.use_of(model, name) for name in names}
    return sorted((name for name, use in uses.items() if use is not None),
                  key=lambda name: cast(Any, uses[name]).first)


def _layer(name: str, module: nn.Module, first: bool, last: bool, output: bool) -> Layer:
    kind: Kind = "fully_connected" if isinstance(module, nn.Linear) else "convolution"
    groups = {"model", "convolutions" if kind == "convolution" else kind, name}
    groups |= _shape_groups(module) if kind == "convolution" else set()
    groups |= {"first"} if first else set()
    groups |= {"last"} if last else set()
    shape = tuple(cast(Tensor, module.weight).shape)
    return Layer(name, kind, shape, frozenset(groups), output)


def _shape_groups(convolution: Any) -> set[str]:
    if is_depthwise(convolution):
        return {"depthwise"}
    one = all(size == 1 for size in convolution.kernel_size)
    return {"pointwise"} if one and convolution.groups == 1 else set()


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
    return isinstance(module, CONVOLUTIONS) and module.in_channels == module.groups > 1
