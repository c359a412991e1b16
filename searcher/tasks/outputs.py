"""The output of a model that the metric judges."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from searcher.errors import TaskError, nearest
from searcher.tasks.data.seeding import kept_generators
from searcher.tasks.user_code import described, user_code
from strategies.base import StrategyError
from strategies.signature import named_outputs

if TYPE_CHECKING:
    from searcher.tasks.base import Task


def main_output(returned: Any, name: str | None, names: Sequence[str] = ()) -> Tensor:
    """The tensor ``name`` of what a model returns, by default the first; ``names`` are
    ``Task.outputs``. A model may return more in training than in evaluation, such as auxiliary
    outputs after the main one. Raises TaskError."""
    if isinstance(returned, Tensor):
        return returned
    try:
        found = named_outputs(returned)
    except StrategyError as error:
        raise TaskError(f"model: {error}") from error
    tensors = list(found.values())
    if name is None:
        return tensors[0]
    if name in found:
        return found[name]
    if name in names and list(names).index(name) < len(tensors):
        return tensors[list(names).index(name)]
    raise TaskError(f"output: found {name!r}, the model returns {', '.join(found)}. "
                    f"{nearest(name, found)}")


class FileOutputs(NamedTuple):
    """The names of the outputs of a task's files, and the one that the metric judges."""

    names: tuple[str, ...]
    judged: str


def file_outputs(task: "Task", sample: tuple[Tensor, ...]) -> FileOutputs:
    """What the model returns in evaluation mode for ``sample``, the inputs (1, ...) of one sample.
    Raises TaskError."""
    with kept_generators():
        model = task.module().eval()
        got = ", ".join(map(described, sample))
        with torch.no_grad(), user_code(f"model: {type(model).__name__}.forward in evaluation mode",
                                        f"It got {got}."):
            returned = model(*sample)
    main = main_output(returned, task.output, task.outputs)
    try:
        named = named_outputs(returned, task.outputs)
    except StrategyError as error:
        raise TaskError(f"outputs: {error}") from error
    return FileOutputs(tuple(named), next(
        name for name, tensor in named.items() if tensor is main))
