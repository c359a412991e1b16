"""The fields of a task, checked when it is made."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from searcher.errors import TaskError, nearest
from searcher.spec.fidelity import TRAINED
from searcher.tasks.model import BaselineTraining
from searcher.tasks.user_code import described

if TYPE_CHECKING:
    from searcher.tasks.base import Task

DEVICES = ("auto", "cpu", "cuda")


def check_fields(task: "Task") -> None:
    """Raises TaskError that names the first field that is wrong, what was found and what is
    expected."""
    _is(isinstance(task.name, str) and task.name.strip() != "", "name", task.name, "a text")
    _is(isinstance(task.model, nn.Module) or callable(task.model), "model", task.model,
        "a torch.nn.Module, or a function that makes one")
    _is(not isinstance(task.model, type) or issubclass(task.model, nn.Module), "model",
        task.model, "a torch.nn.Module, or a function that makes one")
    _data(task)
    for name in ("loss", "augment", "groups", "load"):
        value = getattr(task, name)
        optional = name != "loss"
        _is(callable(value) or (optional and value is None), name, value,
            "a function" + (" or None" if optional else ""))
    _is(isinstance(task.metric, str) and task.metric != "", "metric", task.metric,
        "the name of a metric")
    _epochs(task.epochs)
    for name, least in (("batch_size", 1), ("augmented_epochs", 1), ("workers", 0)):
        _count(name, getattr(task, name), least)
    if task.epoch_samples is not None:
        _count("epoch_samples", task.epoch_samples, 1)
    _is(_number(task.longest_full) and task.longest_full > 0, "longest_full", task.longest_full,
        "a number above 0")
    _is(isinstance(task.device, str) and task.device in DEVICES, "device", task.device,
        f"one of {', '.join(DEVICES)}")
    for name in ("inputs", "outputs"):
        _names(name, getattr(task, name))
    for name in ("output", "target"):
        value = getattr(task, name)
        _is(value is None or isinstance(value, str), name, value, "a name or None")
    _is(task.identity is None or isinstance(task.identity, Mapping), "identity", task.identity,
        "a dictionary or None")
    _baseline(task.baseline)


def _data(task: "Task") -> None:
    given = [split for split in ("training", "validation", "test")
             if getattr(task, split) is not None]
    if task.load is not None and given:
        raise TaskError(f"{given[0]}: it is given beside load. Give the splits themselves, or "
                        "load, which returns them by name.")
    if task.load is None:
        for split in ("training", "validation"):
            if split not in given:
                raise TaskError(f"{split}: no data are given. Give Task({split}=...), or "
                                "Task(load=...), which returns the splits by name.")


def _epochs(epochs: Any) -> None:
    _is(isinstance(epochs, Mapping) and len(epochs) > 0, "epochs", epochs,
        'a dictionary such as {"short": 2, "full": 6}')
    unknown = [name for name in epochs if name not in TRAINED]
    if unknown:
        raise TaskError(f"epochs: found the key {unknown[0]!r}. "
                        f"{nearest(str(unknown[0]), TRAINED)}")
    missing = [name for name in ("short", "full") if name not in epochs]
    if missing:
        raise TaskError(f"epochs: found {dict(epochs)}, expected the key {missing[0]!r} too.")
    counts = []
    for name in (name for name in TRAINED if name in epochs):
        _count(f"epochs[{name!r}]", epochs[name], 0)
        counts.append(epochs[name])
    if counts != sorted(counts):
        raise TaskError(f"epochs: found {dict(epochs)}, expected numbers that do not fall from "
                        "short over full to extended: all count from the start.")


def _baseline(baseline: Any) -> None:
    if baseline is None:
        return
    _is(isinstance(baseline, BaselineTraining), "baseline", baseline,
        "a BaselineTraining, or None for a model that is trained already")
    _is(_number(baseline.learning_rate) and baseline.learning_rate > 0, "baseline.learning_rate",
        baseline.learning_rate, "a number above 0")
    _count("baseline.cycle_epochs", baseline.cycle_epochs, 1)
    _count("baseline.max_epochs", baseline.max_epochs, 0)
    _is(_number(baseline.tolerance) and baseline.tolerance >= 0, "baseline.tolerance",
        baseline.tolerance, "a number from 0")


def _names(field: str, value: Any) -> None:
    right = isinstance(value, Sequence) and not isinstance(value, str) and all(
        isinstance(name, str) and name for name in value)
    _is(right, field, value, "a tuple of names")
    if len(set(value)) != len(value):
        raise TaskError(f"{field}: found {tuple(value)}, expected names that differ.")


def _count(field: str, value: Any, least: int) -> None:
    right = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _is(right, field, value, f"a whole number from {least}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is(right: bool, field: str, value: object, expected: str) -> None:
    if not right:
        raise TaskError(f"{field}: found {_shown(value)}, expected {expected}.")


def _shown(value: object) -> str:
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return str(getattr(value, "__qualname__", type(value).__name__))
    return described(value)
