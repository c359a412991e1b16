"""The boundary to the user's own code: what it raises becomes a TaskError that says where."""

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from searcher.errors import FleetfrontError, TaskError

_PASSED = (FleetfrontError, MemoryError, torch.OutOfMemoryError)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def user_code(where: str, advice: str = "") -> Iterator[None]:
    """What the user's code raises inside becomes ``TaskError("<where>: <type>: <text>. <advice>")``
    with the original as its cause. Errors of fleetfront, lack of memory and a full disk pass."""
    try:
        yield
    except _PASSED:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise
        raise TaskError(f"{where}: {raised(error)} {advice}".rstrip()) from error


def raised(error: BaseException) -> str:
    """``ValueError: text.``, in one line."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 600 else text[:600] + " ..."
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return said if said.endswith((".", "!", "?")) else said + "."


def described(value: object) -> str:
    """What a value is, for error messages: type, shape and element type."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {described(v)}" for k, v in list(value.items())[:8]) + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        parts = ", ".join(map(described, value[:4])) + (", ..." if len(value) > 4 else "")
        return f"a {type(value).__name__} of {len(value)} ({parts})"
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else (
        f"{kind.__module__}.{kind.__qualname__}")
    return f"{name} {value!r}" if isinstance(value, bool | int | float) else name
