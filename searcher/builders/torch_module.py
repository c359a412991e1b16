"""The compressed torch module in the folder of ``fleetfront build``: stored, and loaded again.

    module.pt    the module with plain weights, what constrains them, and all weights and masks
    figures.json "torch_module" describes it

torch cannot pickle a module whose weights are constrained by parametrizations; they are stored
beside it and put on again.
"""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from searcher.documents import parse_text
from searcher.errors import UserError
from strategies.encoding.export import baked

FORMAT = 1
"""Raised when ``module.pt`` is read in another way."""
FIGURES = "figures.json"
FILE = "module.pt"

_UNSTORABLE = (pickle.PicklingError, AttributeError, TypeError, RuntimeError, ValueError)
_MISSING = (ImportError, AttributeError)
_DAMAGED = (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class TorchModule:
    """What ``figures.json`` says of the torch module. ``file`` is None where it could not be
    stored, for the reason ``problem``. ``steps_left_out`` are the steps of the recipe that change
    the file only (``int8``): the module computes as before them. ``torch`` is the version of torch
    that stored it, ``module_class`` the class, which must be importable where it is loaded."""

    file: str | None
    format: int
    torch: str
    module_class: str
    steps_left_out: Sequence[str] = ()
    problem: str | None = None


@dataclass(frozen=True)
class _Figures:
    """The part of ``figures.json`` that is read here."""

    torch_module: TorchModule | None = None


class _Content(TypedDict):
    """What ``module.pt`` holds. ``parametrizations`` are by path of the module and name of the
    tensor, ``trainable`` are the names of the parameters that have gradients."""

    module: nn.Module
    parametrizations: dict[str, dict[str, list[nn.Module]]]
    state: dict[str, Tensor]
    trainable: list[str]


def store(model: nn.Module, folder: Path, steps_left_out: Sequence[str]) -> TorchModule:
    """Write ``model`` into ``folder``; it stays as it is."""
    plain = baked(model)
    content: _Content = {
        "module": plain,
        "parametrizations": _parametrizations(model),
        "state": model.state_dict(),
        "trainable": [name for name, one in model.named_parameters() if one.requires_grad],
    }
    cls = type(plain)
    about = TorchModule(FILE, FORMAT, str(torch.__version__), f"{cls.__module__}:"
                        f"{cls.__qualname__}", steps_left_out)
    try:
        torch.save(content, folder / FILE)
    except _UNSTORABLE as error:
        (folder / FILE).unlink(missing_ok=True)
        return TorchModule(None, FORMAT, about.torch, about.module_class, steps_left_out,
                           f"{type(error).__name__}: {error}")
    return about


def load(folder: Path) -> nn.Module:
    """The module of a folder that ``fleetfront build`` wrote, in evaluation mode, ready to be
    trained on: masks and codebooks are in force. Raises UserError."""
    about = _about(folder)
    if about.file is None:
        raise UserError(f"{folder}: the torch module could not be stored ({about.problem}). Its "
                        f"class {about.module_class}, and all that it holds, must be picklable: "
                        "classes and functions at the top level of a module, no lambdas.")
    if about.format != FORMAT:
        raise UserError(f"{folder}: its torch module has format {about.format}, this version of "
                        f"fleetfront reads {FORMAT}. Build it again with this version.")
    try:
        content = torch.load(folder / about.file, map_location="cpu", weights_only=False)
        return _restored(content)
    except FileNotFoundError as error:
        raise UserError(f"{folder / about.file} does not exist. Build it again.") from error
    except _MISSING as error:
        raise UserError(
            f"{folder / about.file} needs the class {about.module_class}, and what it needs cannot "
            f"be imported: {error}. Run from the folder that holds its module, add that folder to "
            "PYTHONPATH, or install its package.") from error
    except _DAMAGED as error:
        raise UserError(
            f"{folder / about.file} cannot be loaded: {type(error).__name__}: {error}. torch "
            f"{about.torch} stored it, this is {torch.__version__}. Build it again.") from error


def _about(folder: Path) -> TorchModule:
    try:
        about = parse_text(_Figures, (folder / FIGURES).read_bytes()).torch_module
    except FileNotFoundError as error:
        what = "has no figures.json" if folder.is_dir() else "does not exist"
        raise UserError(f"The folder {folder} {what}. Give the folder that `fleetfront build -o` "
                        "wrote.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / FIGURES} cannot be read: {error}") from error
    if about is None:
        raise UserError(f"{folder}: an older version built it, without a torch module. Build it "
                        "again.")
    return about


def _parametrizations(model: nn.Module) -> dict[str, dict[str, list[nn.Module]]]:
    """The parametrizations of every tensor in order, by path of the module and name."""
    found: dict[str, dict[str, list[nn.Module]]] = {}
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module):
            chains = cast(Mapping[str, nn.ModuleList], module.parametrizations)
            found[path] = {name: list(chain) for name, chain in chains.items()}
    return found


def _restored(content: _Content) -> nn.Module:
    module = content["module"]
    with torch.no_grad():
        for path, chains in content["parametrizations"].items():
            for name, parts in chains.items():
                for part in parts:
                    parametrize.register_parametrization(
                        module.get_submodule(path), name, part, unsafe=True)
        module.load_state_dict(content["state"])
    trainable = set(content["trainable"])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trainable)
    return module.eval()
