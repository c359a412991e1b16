"""Putting a module in the place of another one, under every name that it has."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from strategies.base import Restructured, StrategyError
from strategies.dataflow import follow


def replace_layers(
    model: nn.Module, layers: Sequence[str],
    substitute: Callable[[nn.Module, str], nn.Module | str], name: str,
    example_inputs: Sequence[Tensor],
) -> Restructured:
    """Replace each layer by what ``substitute`` makes of it and its path, in ``model`` itself; a
    text from it says why it leaves the layer as it is. Layers whose weight is read by more than
    their own calls are left, too.

    Raises StrategyError(``nothing_to_do``) when every layer was left, ``unsupported_graph`` when
    the model cannot be run.
    """
    flow = follow(model, example_inputs)
    left: dict[str, str] = {}
    for path in layers:
        layer = model.get_submodule(path)
        reason = flow.untouchable(model, path)
        made = substitute(layer, path) if reason is None else reason
        if isinstance(made, str):
            left[path] = made
        else:
            made.requires_grad_(any(p.requires_grad for p in layer.parameters()))
            put_in_place(model, layer, made)
    if len(left) == len(layers):
        raise StrategyError(
            f"{name} would make none of {', '.join(layers)} smaller: "
            f"{'; '.join(f'{path}: {reason}' for path, reason in left.items())}.", "nothing_to_do")
    return Restructured(model, left=left)


def put_in_place(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """``new`` under every name that ``old`` has in ``model``."""
    for parent in list(model.modules()):
        for child, module in parent._modules.items():
            if module is old:
                parent._modules[child] = new
                # torch's fused encoder layer would read weights of its children by name.
                if isinstance(parent, nn.TransformerEncoderLayer):
                    parent.activation_relu_or_gelu = 0
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder) and any(
                new is module for module in encoder.modules()):
            encoder.use_nested_tensor = False


def weights_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def smaller(split: nn.Module, layer: nn.Module) -> nn.Module | str:
    """``split`` if it has fewer parameters than ``layer``, else why not."""
    if weights_of(split) < weights_of(layer):
        return split
    return f"it would have {weights_of(split):,} parameters instead of {weights_of(layer):,}"
