"""The device that builders train on, and tensors on their way to files."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from searcher.errors import TaskError


def resolved(name: str) -> torch.device:
    """``auto`` is ``cuda`` where torch finds a CUDA device, else ``cpu``. Raises TaskError for
    ``cuda`` without one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        build = torch.version.cuda
        reason = ("this torch was built without CUDA" if build is None else
                  f"torch for CUDA {build} finds no device")
        raise TaskError(f"device: found 'cuda', but {reason}. Install a torch with CUDA and its "
                        "driver on the machine of the builders, or set Task(device=\"auto\").")
    return torch.device(name)


def on_host(state: Any) -> Any:
    """``state`` with every tensor in the host's memory, so that any machine can load it."""
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, Mapping):
        return {key: on_host(part) for key, part in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(on_host(part) for part in state)
    return state
