"""The data of a training loop: augmented batches, drawn once and kept, and a cached teacher."""

from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from searcher.tasks.base import Task
from searcher.tasks.metrics import registry as metrics
from strategies.base import Batch

CACHE_BYTES = 512 * 2**20


class TrainingSplit:
    """``strategies.base.TrainingData`` over a task's training and validation splits.

    Epoch ``e`` takes the next ``epoch_samples`` of a shuffled pass over the training split. After
    ``augmented_epochs`` the same augmented pictures come again in another order of batches, so
    that they and the teacher's outputs for them are computed once. Pictures are kept as uint8
    (they are 8-bit pictures before augmentation); all depends on (task, seed, epoch) only.
    """

    def __init__(self, task: Task, seed: int) -> None:
        splits = task.load()
        self._task, self._seed = task, seed
        self._inputs = torch.from_numpy(splits["training"].inputs)
        self._targets = torch.from_numpy(splits["training"].targets)
        self._validation = splits["validation"]
        self._size = min(task.epoch_samples, len(self._targets))
        self._kept: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()
        self.loss: Callable[[Tensor, Tensor], Tensor] = task.loss
        self.batches_per_epoch = -(-self._size // task.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of ``epoch``; ``Batch.key`` is (augmented epoch, batch number)."""
        number = epoch % self._task.augmented_epochs
        pictures, targets = self._epoch(number)
        step = self._task.batch_size
        order = torch.randperm(self.batches_per_epoch,
                               generator=torch.Generator().manual_seed(self._seed * 7919 + epoch))
        for index in order.tolist():
            part = slice(index * step, (index + 1) * step)
            yield Batch((number, index), pictures[part].float().div_(255), targets[part])

    def validation_metric(self, model: nn.Module) -> float:
        """The task's metric of ``model`` on the validation split; negative where a lower metric is
        better."""
        metric = metrics.named(self._task.metric)
        model.eval()
        with torch.no_grad():
            outputs = [model(torch.from_numpy(self._validation.inputs[start:start + 500])).numpy()
                       for start in range(0, len(self._validation.targets), 500)]
        model.train()
        value = metric.value(metric.scores(np.concatenate(outputs), self._validation.targets))
        return value if metric.direction == "maximize" else -value

    def calibration(self, samples: int = 256) -> Tensor:
        """(samples, *input shape) of unaugmented training inputs, evenly spread."""
        spread = np.linspace(0, len(self._targets) - 1, min(samples, len(self._targets)))
        return self._inputs[torch.from_numpy(spread.astype(np.int64))]

    def _epoch(self, number: int) -> tuple[Tensor, Tensor]:
        if number not in self._kept:
            if sum(p.nbytes for p, _ in self._kept.values()) > CACHE_BYTES:
                self._kept.popitem(last=False)
            self._kept[number] = self._draw(number)
        return self._kept[number]

    def _draw(self, number: int) -> tuple[Tensor, Tensor]:
        per_pass = max(len(self._targets) // self._size, 1)
        shuffle = torch.Generator().manual_seed(self._seed * 104729 + number // per_pass)
        start = number % per_pass * self._size
        chosen = torch.randperm(len(self._targets), generator=shuffle)[start:start + self._size]
        inputs, targets = self._inputs[chosen], self._targets[chosen]
        if self._task.augment is not None:
            inputs = self._task.augment(inputs, self._seed * 15485863 + number)
        return inputs.mul(255).round_().clamp_(0, 255).to(torch.uint8), targets


class CachedTeacher:
    """``strategies.base.Teacher`` that computes each batch's outputs once."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval()
        self._outputs: dict[tuple[int, int], Tensor] = {}

    def __call__(self, batch: Batch) -> Tensor:
        """The teacher's outputs for ``batch``, without gradient."""
        if batch.key not in self._outputs:
            with torch.no_grad():
                self._outputs[batch.key] = self._model(batch.inputs)
        return self._outputs[batch.key]
