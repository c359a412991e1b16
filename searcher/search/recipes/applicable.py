"""Whether structure steps can be applied to a task's model: they are tried on a copy."""

from collections.abc import Mapping, Sequence

from searcher.errors import UserError
from searcher.search.recipes.offers import WhyNot
from searcher.tasks.base import Task
from strategies.base import Layer, StrategyError, StructureStrategy
from strategies.layers import layers_of


def model_layers(task: Task) -> tuple[Layer, ...]:
    """The layers of the task's model in order of execution. Raises UserError."""
    try:
        return layers_of(task.module(), next(task.samples("validation").batches(1)).inputs)
    except StrategyError as error:
        raise UserError(f"The task {task.name!r} cannot be compressed: {error}") from error


def trial_of(task: Task) -> WhyNot:
    """Apply a structure step to a copy of the model, without its data."""
    inputs = next(task.samples("validation").batches(1)).inputs

    def why_not(strategy: StructureStrategy, names: Sequence[str]
                ) -> str | Mapping[str, str] | None:
        try:
            return strategy.restructure(task.module(), list(names), inputs).left
        except StrategyError as error:
            return str(error)
    return why_not
