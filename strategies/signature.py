"""The names of a model's inputs and outputs, which its exported file has too."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass

from torch import Tensor, nn

from strategies.base import StrategyError

OUTPUT = "output"


def input_names(model: nn.Module, count: int) -> tuple[str, ...]:
    """The names of the first ``count`` parameters of ``model.forward``; ``*xs`` gives ``xs_0``,
    ``xs_1``, .... Raises StrategyError(``unsupported_graph``) when it has fewer."""
    names: list[str] = []
    for parameter in inspect.signature(model.forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = range(count - len(names))
            names += [f"{parameter.name}_{index}" for index in rest]
        elif parameter.kind is not parameter.KEYWORD_ONLY and parameter.kind is not (
                parameter.VAR_KEYWORD):
            names.append(parameter.name)
    if len(names) < count:
        raise StrategyError(
            f"{type(model).__name__}.forward takes {len(names)} inputs ({', '.join(names)}), a "
            f"sample has {count}.", "unsupported_graph")
    return tuple(names[:count])


def named_outputs(outputs: object, names: Sequence[str] = ()) -> dict[str, Tensor]:
    """The tensors of what a model returns, by name, in order.

    One tensor is ``output``. A mapping gives its keys, a named tuple or dataclass its fields, a
    tuple or list ``output_0``, ``output_1``, ...; what is nested in it is joined with a dot. None
    is left out. ``names`` replace these names in order. Raises StrategyError(``unsupported_graph``)
    for anything else, for none, for equal names, and for another number of ``names``.
    """
    found = list(_flattened(outputs, ""))
    given = list(names) or [name for name, _ in found]
    if not found:
        raise StrategyError(f"The model returns {_kind(outputs)} without a tensor.",
                            "unsupported_graph")
    if len(given) != len(found):
        raise StrategyError(
            f"The model returns {len(found)} tensors ({', '.join(name for name, _ in found)}), "
            f"{len(given)} names are given ({', '.join(given)}).", "unsupported_graph")
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise StrategyError(f"Several outputs of the model are named {twice[0]!r}; give every "
                            "output another name.", "unsupported_graph")
    return dict(zip(given, (tensor for _, tensor in found), strict=True))


def _flattened(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name or OUTPUT, value
    elif value is not None:
        for key, inner in _parts(value, name):
            yield from _flattened(inner, key)


def _parts(value: object, name: str) -> Iterator[tuple[str, object]]:
    prefix = f"{name}." if name else ""
    if isinstance(value, Mapping):
        yield from ((f"{prefix}{key if isinstance(key, str) else f'{OUTPUT}_{key}'}", inner)
                    for key, inner in value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from ((f"{prefix}{key}", inner)
                    for key, inner in zip(value._fields, value, strict=True))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from ((f"{prefix}{field.name}", getattr(value, field.name))
                    for field in fields(value))
    elif isinstance(value, tuple | list):
        yield from ((f"{name or OUTPUT}_{index}", inner) for index, inner in enumerate(value))
    else:
        raise StrategyError(
            f"The model returns {_kind(value)}{f' as {name!r}' if name else ''}; its outputs "
            "must be tensors, alone or in a dict, tuple or list.", "unsupported_graph")


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
