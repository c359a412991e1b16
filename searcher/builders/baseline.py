"""The baseline of a task: the user's model as it is, or trained first."""

import contextlib
import copy

import torch
from torch import nn

from searcher.errors import TaskError
from searcher.tasks.base import BaselineTraining, Task
from searcher.tasks.data.seeding import kept_generators, seed_generators
from searcher.tasks.training_data import TrainingSplit
from searcher.tasks.user_code import described, user_code
from strategies.base import Batch, StrategyError, TrainingState
from strategies.training.loop import fit_until_plateau


def look_at(model: nn.Module, split: TrainingSplit) -> None:
    """One forward pass of the model in evaluation mode, and the output that the metric judges.
    Raises TaskError where the model does not take the samples of the task."""
    inputs = split.calibration(2)
    training = model.training
    model.eval()
    with kept_generators(), torch.no_grad():
        seed_generators(0)
        with _forward(model, inputs):
            returned = model(*inputs)
        split.main_output(returned)
    model.train(training)


def look_at_step(model: nn.Module, batch: Batch, split: TrainingSplit) -> None:
    """Forward pass, loss and gradients of one batch by a copy of the model in training mode.
    Raises TaskError where one of them fails: no compressed model can be trained either."""
    model = copy.deepcopy(model).train()
    with kept_generators():
        with _forward(model, batch.inputs):
            returned = model(*batch.inputs)
        loss = split.loss(returned, batch.targets)
        split.main_output(returned)
        with user_code("loss: its gradients"):
            loss.backward()  # type: ignore[no-untyped-call]


def trained(model: nn.Module, task: Task, spec: BaselineTraining, split: TrainingSplit,
            device: torch.device) -> tuple[nn.Module, TrainingState]:
    """The model trained by ``spec`` on ``device``, in the host's memory again. Raises TaskError:
    what fails here fails without any compression."""
    with user_code(f"baseline: training of {task.name}", "The model itself cannot be trained."):
        try:
            model, state = fit_until_plateau(
                model.to(device), split, learning_rate=spec.learning_rate,
                cycle_epochs=spec.cycle_epochs, max_epochs=spec.max_epochs,
                tolerance=spec.tolerance)
        except StrategyError as error:
            raise TaskError(
                f"baseline: {error} The learning rate is BaselineTraining.learning_rate = "
                f"{spec.learning_rate:g}; `fleetfront tasks check` finds inputs that are not "
                "finite.") from error
    return model.cpu(), state


def _forward(model: nn.Module, inputs: tuple[torch.Tensor, ...]
             ) -> contextlib.AbstractContextManager[None]:
    mode = "training" if model.training else "evaluation"
    return user_code(f"model: {type(model).__name__}.forward in {mode} mode",
                     f"It got {', '.join(map(described, inputs))}.")
