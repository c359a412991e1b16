"""The data of a training loop: batches of an epoch, drawn once and kept, and a cached teacher."""

from collections import OrderedDict
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from searcher.errors import TaskError
from searcher.tasks.base import Task
from searcher.tasks.metrics import registry as metrics
from searcher.tasks.outputs import main_output
from searcher.tasks.user_code import described, user_code
from strategies.base import Batch
from strategies.tensor_trees import mapped

CACHE_BYTES = 512 * 2**20


class TrainingSplit:
    """``strategies.base.TrainingData`` over a task's training and validation splits.

    Epoch ``e`` takes the next ``epoch_samples`` of a shuffled pass over the training split. After
    ``augmented_epochs`` the same batches come again in another order; all depends on (task, seed,
    epoch) only. A last batch of one sample joins the one before: normalization over a batch is
    not defined for one sample.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self._task, self._seed = task, seed
        self._samples = task.samples("training")
        self._validation = task.samples("validation")
        self._size = min(task.epoch_samples or len(self._samples), len(self._samples))
        alone = self._size % task.batch_size == 1 and self._size > 1 and task.batch_size > 1
        self.batches_per_epoch = -(-self._size // task.batch_size) - alone
        self.answer = metrics.named(task.metric).answer
        self._kept: OrderedDict[int, tuple[tuple[Tensor, ...], Any]] = OrderedDict()

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The task's loss of the model's raw answer. Raises TaskError that names what the loss
        got, where it raises or gives no scalar."""
        got = f"It got outputs: {described(outputs)}; targets: {described(targets)}."
        with user_code("loss", got):
            value = self._task.loss(outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise TaskError(f"loss: gave {described(value)}, expected a tensor with one value. "
                            f"{got}")
        return value.reshape(())

    def main_output(self, outputs: Any) -> Tensor:
        """The output of a raw answer that the metric judges."""
        return main_output(outputs, self._task.output, self._task.outputs)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of ``epoch``; ``Batch.key`` is (augmented epoch, batch number)."""
        number = epoch % self._task.augmented_epochs
        inputs, targets = self._epoch(number)
        step = self._task.batch_size
        order = torch.randperm(self.batches_per_epoch,
                               generator=torch.Generator().manual_seed(self._seed * 7919 + epoch))
        for index in order.tolist():
            last = index == self.batches_per_epoch - 1
            part = slice(index * step, None if last else (index + 1) * step)
            yield Batch((number, index), tuple(tensor[part] for tensor in inputs),
                        mapped(itemgetter(part), targets))

    def validation_metric(self, model: nn.Module) -> float:
        """The task's metric of ``model`` on the validation split; negative where a lower metric is
        better."""
        metric = metrics.named(self._task.metric)
        model.eval()
        scores = []
        with torch.no_grad():
            for batch in self._validation.batches(500):
                outputs = self.main_output(model(*batch.inputs))
                scores.append(metric.scores(outputs.numpy(), batch.targets.numpy()))
        model.train()
        value = metric.value(np.concatenate(scores))
        return value if metric.direction == "maximize" else -value

    def calibration(self, samples: int = 256) -> tuple[Tensor, ...]:
        """(samples, *input shape) of training inputs for each input, evenly spread, without
        ``Task.augment``."""
        total = len(self._samples)
        spread = np.linspace(0, total - 1, min(samples, total)).astype(np.int64)
        return next(self._samples.stream([spread.tolist()]))[0]

    def _epoch(self, number: int) -> tuple[tuple[Tensor, ...], Any]:
        if number not in self._kept:
            if sum(i.nbytes for p, _ in self._kept.values() for i in p) > CACHE_BYTES:
                self._kept.popitem(last=False)
            self._kept[number] = self._draw(number)
        return self._kept[number]

    def _draw(self, number: int) -> tuple[tuple[Tensor, ...], Any]:
        total = len(self._samples)
        per_pass = max(total // self._size, 1)
        shuffle = torch.Generator().manual_seed(self._seed * 104729 + number // per_pass)
        start = number % per_pass * self._size
        chosen = torch.randperm(total, generator=shuffle)[start:start + self._size]
        inputs, targets = next(self._samples.stream([chosen.tolist()]))
        if self._task.augment is not None:
            changed = self._task.augment(inputs if len(inputs) > 1 else inputs[0],
                                         self._seed * 15485863 + number)
            inputs = changed if isinstance(changed, tuple) else (changed,)
        return inputs, targets


class CachedTeacher:
    """``strategies.base.Teacher`` that computes each batch's outputs once."""

    def __init__(self, model: nn.Module, data: TrainingSplit) -> None:
        self._model, self._data = model.eval(), data
        self._outputs: dict[tuple[int, int], Tensor] = {}

    def __call__(self, batch: Batch) -> Tensor:
        """The teacher's main output for ``batch``, without gradient."""
        if batch.key not in self._outputs:
            with torch.no_grad():
                self._outputs[batch.key] = self._data.main_output(self._model(*batch.inputs))
        return self._outputs[batch.key]
