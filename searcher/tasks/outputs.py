"""What a model answers: a tensor, or tensors by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from searcher.errors import TaskError, nearest
from searcher.tasks.user_code import described


def named_outputs(raw: Any, names: Sequence[str] = ()) -> dict[str, Tensor]:
    """The tensors of a model's answer by name, in its order: a tensor is ``output``; a mapping
    and a named tuple have names of their own; those of a tuple or list are ``output_0``, ... .
    ``names`` replaces all of them. Parts of a mapping or a tuple that are None are left out.
    Raises TaskError."""
    found = dict(_flat(raw, ""))
    if not found:
        raise TaskError(f"model: forward gives {described(raw)}, expected a tensor, or a tuple, "
                        "list or dictionary of tensors.")
    if names:
        if len(names) != len(found):
            raise TaskError(f"Task.outputs names {len(names)} outputs ({', '.join(names)}), the "
                            f"model gives {len(found)} ({', '.join(found)}).")
        found = dict(zip(names, found.values(), strict=True))
    return found


def main_output(raw: Any, name: str | None, names: Sequence[str] = ()) -> Tensor:
    """The output ``name`` of a model's answer, by default the first: the one that the metric
    judges. Raises TaskError."""
    if isinstance(raw, Tensor) and name is None:
        return raw
    found = named_outputs(raw, names)
    if name is None:
        return next(iter(found.values()))
    if name not in found:
        if isinstance(raw, Tensor):
            return raw
        raise TaskError(f"Task.output is {name!r}, the model gives {', '.join(found)}. "
                        f"{nearest(name, found)}")
    return found[name]


def _flat(raw: Any, name: str) -> list[tuple[str, Tensor]]:
    if isinstance(raw, Tensor):
        return [(name or "output", raw)]
    if raw is None and name:
        return []
    if isinstance(raw, Mapping):
        parts = [(str(key), part) for key, part in raw.items()]
    elif isinstance(raw, tuple) and hasattr(raw, "_fields"):
        parts = list(zip(raw._fields, raw, strict=True))
    elif isinstance(raw, tuple | list):
        parts = [(f"{name or 'output'}_{k}", part) for k, part in enumerate(raw)]
        return [found for inner, part in parts for found in _flat(part, inner)]
    else:
        raise TaskError(f"model: forward gives {described(raw)}"
                        + (f" as {name!r}" if name else "") + ", expected a tensor, or a tuple, "
                        "list or dictionary of tensors.")
    prefix = f"{name}." if name else ""
    return [found for inner, part in parts for found in _flat(part, prefix + inner)]
