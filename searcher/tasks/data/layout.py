"""Where the inputs of the model and the target are in a sample or in a collated batch."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from searcher.errors import TaskError, nearest
from searcher.tasks.user_code import described

FORMS = ("Expected (input, target), ((first input, second input), target), ({name: input}, target) "
         "or, with Task(target=...), a dictionary of named inputs and the target.")


@dataclass(frozen=True)
class Forward:
    """The parameters of a model's ``forward`` by position; ``required`` of them have no default.
    ``open_ended``: it also takes any number of further ones."""

    names: tuple[str, ...]
    required: int
    open_ended: bool

    @classmethod
    def of(cls, model: nn.Module) -> "Forward":
        parameters = inspect.signature(model.forward).parameters.values()
        named = [p for p in parameters
                 if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return cls(tuple(p.name for p in named), sum(p.default is p.empty for p in named),
                   any(p.kind == p.VAR_POSITIONAL for p in parameters))

    def first(self, count: int, where: str) -> tuple[str, ...]:
        """The names of the first ``count`` inputs. Raises TaskError unless ``forward`` takes
        that many."""
        if count < self.required or (count > len(self.names) and not self.open_ended):
            raise TaskError(
                f"{where}: it gives {_inputs(count)}, but the model's forward takes "
                f"({', '.join(self.names)}). Give one input for each parameter.")
        numbered = (f"input_{number}" for number in range(len(self.names), count))
        return (*self.names, *numbered)[:count]


@dataclass(frozen=True)
class Layout:
    """``names`` of the inputs in the order of ``forward``. ``keys`` are their keys where the
    inputs are a mapping; ``target`` is the target's key where the whole sample is one.
    ``several``: the inputs are a tuple or list."""

    names: tuple[str, ...]
    keys: tuple[str, ...] | None = None
    target: str | None = None
    several: bool = False

    def pick(self, sample: Any, where: str) -> tuple[tuple[Any, ...], Any]:
        """The inputs in the order of ``names``, and the target, of a sample or a batch. Raises
        TaskError where it has another form than the sample from which the layout was read."""
        if self.target is not None:
            inputs, target = sample, sample.get(self.target) if isinstance(
                sample, Mapping) else None
        else:
            inputs, target = _pair(sample, where)
        if self.keys is not None:
            if not isinstance(inputs, Mapping):
                raise TaskError(f"{where}: found {described(inputs)}, expected a dictionary as in "
                                "the first sample.")
            wanted = (*self.keys, *((self.target,) if self.target is not None else ()))
            missing = [key for key in wanted if key not in inputs]
            if missing:
                raise TaskError(f"{where}: the key {missing[0]!r} is missing. Found: "
                                f"{', '.join(map(str, inputs))}.")
            return tuple(inputs[key] for key in self.keys), target
        if not self.several:
            return (inputs,), target
        if not _is_list(inputs) or len(inputs) != len(self.names):
            raise TaskError(f"{where}: found {described(inputs)}, expected {len(self.names)} "
                            "inputs as in the first sample.")
        return tuple(inputs), target


def layout_of(sample: Any, forward: Forward, inputs: Sequence[str], target: str | None,
              where: str) -> Layout:
    """The layout of ``sample``, matched with the parameters of ``forward``. ``inputs`` are the
    names in ``Task.inputs``, ``target`` is ``Task.target``. Raises TaskError."""
    if isinstance(sample, Mapping):
        return _of_mapping(sample, forward, inputs, _target_key(sample, target, where), where)
    found, _ = _pair(sample, where)
    if isinstance(found, Mapping):
        return _of_mapping(found, forward, inputs, None, where)
    several = _is_list(found)
    count = len(found) if several else 1
    names = forward.first(count, where)
    if inputs and len(inputs) != count:
        raise TaskError(f"{where}: Task.inputs names {_inputs(len(inputs))} "
                        f"({', '.join(inputs)}), found {_inputs(count)}.")
    return Layout(tuple(inputs) or names, several=several)


def _of_mapping(fields: Mapping[Any, Any], forward: Forward, inputs: Sequence[str],
                target: str | None, where: str) -> Layout:
    known = [key for key in fields if key != target]
    keys = _in_order(inputs, forward) or [name for name in forward.names if name in known]
    if not keys and len(known) == 1:
        return Layout(forward.first(1, where), (known[0],), target)
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise TaskError(f"{where}: Task.inputs names {unknown[0]!r}, which is no key of it. "
                        f"{nearest(unknown[0], map(str, known))}")
    if not keys:
        raise TaskError(
            f"{where}: none of the keys {', '.join(map(str, known)) or '(none)'} is a parameter "
            f"of the model's forward ({', '.join(forward.names)}). Name the keys in the order "
            "of the parameters: Task(inputs=(...)).")
    if not inputs and tuple(keys) != forward.names[:len(keys)]:
        absent = next(name for name in forward.names if name not in keys)
        raise TaskError(
            f"{where}: there is no key for the parameter {absent!r} of the model's forward "
            f"({', '.join(forward.names)}), and {keys[-1]!r} comes after it. Give it too, or wrap "
            "the model in a module whose forward takes only the inputs that the data have.")
    forward.first(len(keys), where)
    return Layout(tuple(keys), tuple(keys), target)


def _in_order(inputs: Sequence[str], forward: Forward) -> list[str]:
    if set(inputs) <= set(forward.names):
        return sorted(inputs, key=forward.names.index)
    return list(inputs)


def _target_key(sample: Mapping[Any, Any], target: str | None, where: str) -> str:
    keys = ", ".join(map(str, sample))
    if target is None:
        raise TaskError(f"{where}: a sample is a dictionary with the keys {keys}. Name the key of "
                        "the target: Task(target=...).")
    if target not in sample:
        raise TaskError(f"{where}: Task.target is {target!r}, found the keys {keys}. "
                        f"{nearest(target, map(str, sample))}")
    return target


def _pair(sample: Any, where: str) -> tuple[Any, Any]:
    if not _is_list(sample) or len(sample) != 2:
        raise TaskError(f"{where}: found {described(sample)}. {FORMS}")
    return sample[0], sample[1]


def _is_list(value: object) -> bool:
    return isinstance(value, tuple | list)


def _inputs(count: int) -> str:
    return f"{count} input" if count == 1 else f"{count} inputs"
