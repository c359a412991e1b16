"""The digest of a task: what its builds depend on, the same in every process."""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from searcher.tasks.user_code import user_code

if TYPE_CHECKING:
    from searcher.tasks.base import Task

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def digest_of(task: "Task", fingerprint: Mapping[str, str] | None) -> str:
    """sha256 over the configuration of ``task``, and ``Task.identity`` or, without one, the
    ``fingerprint`` of model and data (``fingerprint_of``)."""
    identity = dict(task.identity or {}) if fingerprint is None else dict(fingerprint)
    document = [task.name, identity, dict(task.epochs), task.metric, task.batch_size,
                task.epoch_samples, task.augmented_epochs, task.longest_full,
                repr(task.baseline)]
    # Fields that not every task has follow only where they are set.
    face = {name: value for name, value in (
        ("inputs", list(task.inputs)), ("outputs", list(task.outputs)),
        ("output", task.output), ("target", task.target)) if value}
    with user_code("identity", "It must hold texts, numbers, lists and dictionaries of them."):
        text = json.dumps([*document, face] if face else document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_of(task: "Task", model: nn.Module, data: Mapping[str, str]) -> dict[str, str]:
    """What a task without an identity consists of, part by part: sha256 of the weights and of the
    structure of ``model``, ``data`` by split, and the names of the functions."""
    return {
        "weights": weights_digest(model),
        "structure": hashlib.sha256(_ADDRESS.sub("", repr(model)).encode()).hexdigest(),
        **data,
        "loss": name_of(task.loss),
        "augment": "" if task.augment is None else name_of(task.augment),
    }


def weights_digest(model: nn.Module) -> str:
    """sha256 over names, types, shapes and values of parameters and buffers."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(name.encode())
        if isinstance(value, torch.Tensor):
            with user_code(f"model: the weight {name!r} cannot be read"):
                plain = value.detach().cpu().contiguous()
                found.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
                found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def name_of(function: Callable[..., Any]) -> str:
    """The qualified name of a function, with the arguments of a partial one, or the settings of a
    module; not its code."""
    if isinstance(function, functools.partial):
        bound = [repr(function.args), repr(sorted(function.keywords.items()))]
        return _ADDRESS.sub("", f"{name_of(function.func)}{bound}")
    if isinstance(function, nn.Module):
        settings = sorted((name, value) for name, value in vars(function).items()
                          if isinstance(value, bool | int | float | str))
        return _ADDRESS.sub("", f"{function!r}{settings}")
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
