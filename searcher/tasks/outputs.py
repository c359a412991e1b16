"""The output of a model that the metric judges."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from searcher.errors import TaskError, nearest
from strategies.base import StrategyError
from strategies.signature import named_outputs


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
