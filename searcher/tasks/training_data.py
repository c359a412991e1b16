"""The data of a training loop: the batches of an epoch, the loss, and the validation metric."""

from collections.abc import Iterator, Sequence
from itertools import count
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from searcher.errors import TaskError
from searcher.tasks.base import Task
from searcher.tasks.data.kept import BATCHES_BYTES, KeptBatches
from searcher.tasks.data.seeding import kept_generators, seed_generators, seed_of
from searcher.tasks.data.source import Rows
from searcher.tasks.metrics import registry as metrics
from searcher.tasks.metrics.scoring import Scoring
from searcher.tasks.outputs import main_output
from searcher.tasks.user_code import described, user_code
from strategies.base import Batch
from strategies.tensor_trees import leaves, mapped, size_bytes

EPOCH_BYTES = 64 * 2**20
"""``Task.augment`` gets a whole epoch of arrays of up to these bytes, of larger data one batch."""
VALIDATION_BYTES = 16 * 2**20
"""Inputs of the batches on which the validation metric is computed, at most 500 samples."""

CALIBRATION_BYTES = 64 * 2**20


class TrainingSplit:
    """``strategies.base.TrainingData`` over a task's training and validation splits. Batches are
    on ``device``.

    Epoch ``e`` takes the next ``epoch_samples`` of a shuffled pass over the training split. After
    ``augmented_epochs`` the same batches come again in another order; all depends on (task, seed,
    epoch) only. A last batch of one sample joins the one before: normalization over a batch is
    not defined for one sample.
    """

    def __init__(self, task: Task, seed: int, device: torch.device | None = None) -> None:
        self._task, self._seed = task, seed
        self._device = device or torch.device("cpu")
        self._samples = task.samples("training")
        self._validation = task.samples("validation")
        self._size = min(task.epoch_samples or len(self._samples), len(self._samples))
        alone = self._size % task.batch_size == 1 and self._size > 1 and task.batch_size > 1
        self.batches_per_epoch = -(-self._size // task.batch_size) - alone
        self._metric = metrics.named(task.metric)
        self.answer = self._metric.answer
        self._kept = KeptBatches(BATCHES_BYTES)
        self._draws = count(1)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The task's loss of what the model returns. Raises TaskError that says what the loss got,
        where it raises or gives no scalar."""
        got = f"It got outputs: {described(outputs)}; targets: {described(targets)}."
        with user_code("loss", got):
            value = self._task.loss(outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise TaskError(f"loss: gave {described(value)}, expected a tensor with one value. "
                            f"{got}")
        return value.reshape(())

    def main_output(self, outputs: Any) -> Tensor:
        """The output that the metric judges, of what the model returns."""
        return main_output(outputs, self._task.output, self._task.outputs)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of ``epoch``; ``Batch.key`` is (augmented epoch, batch number). Where a
        dataset does not repeat its samples, no key comes twice and the first number is negative."""
        number = epoch % self._task.augmented_epochs
        shuffle = torch.Generator().manual_seed(self._seed * 7919 + epoch)
        order = torch.randperm(self.batches_per_epoch, generator=shuffle).tolist()
        key = number if self._samples.in_memory or self._samples.habits.repeats else (
            -next(self._draws))
        for index, (inputs, targets) in zip(order, self._rows(number, key, order), strict=True):
            yield Batch((key, index), tuple(part.to(self._device) for part in inputs),
                        mapped(lambda part: part.to(self._device), targets))

    def validation_metric(self, model: nn.Module) -> float:
        """The task's metric of ``model`` on the validation split, negative where a lower metric is
        better; the negative loss for a metric that compares with the uncompressed model. Raises
        TaskError where the metric does not fit the outputs."""
        model.eval()
        with torch.no_grad():
            value = (self._validation_loss(model) if self._metric.against == "reference" else
                     self._validation_score(model))
        model.train()
        return value

    def calibration(self, samples: int = 256) -> tuple[Tensor, ...]:
        """(samples, *input shape) of training inputs for each input, evenly spread, without
        ``Task.augment``; in the memory of the host. Fewer where there are fewer, or where they
        would take more than ``CALIBRATION_BYTES``."""
        total = len(self._samples)
        if samples > 1:
            sample_bytes = max(size_bytes(self.calibration(1)), 1)
            samples = max(min(samples, CALIBRATION_BYTES // sample_bytes), 1)
        spread = np.linspace(0, total - 1, min(samples, total)).astype(np.int64)
        return next(self._samples.stream([spread.tolist()]))[0]

    def _answers(self, model: nn.Module) -> Iterator[tuple[Any, Any]]:
        """What the model returns for the validation batches, and their targets."""
        first = next(self._validation.batches(1))
        size = max(min(VALIDATION_BYTES // max(size_bytes(first.inputs), 1), 500), 1)
        for batch in self._validation.batches(size):
            yield (model(*(part.to(self._device) for part in batch.inputs)),
                   mapped(lambda part: part.to(self._device), batch.targets))

    def _validation_loss(self, model: nn.Module) -> float:
        losses, samples = 0.0, 0
        for outputs, targets in self._answers(model):
            n = len(self.main_output(outputs))
            losses, samples = losses + n * float(self.loss(outputs, targets)), samples + n
        return -losses / samples

    def _validation_score(self, model: nn.Module) -> float:
        scoring = Scoring(self._metric, len(self._validation))
        try:
            for outputs, targets in self._answers(model):
                scoring.add(_array(self.main_output(outputs)), mapped(_array, targets))
            value = scoring.value()
        except ValueError as error:
            raise TaskError(f"metric: {self._task.metric!r} on the validation split: {error}. "
                            "Choose a metric that fits the outputs and the targets, or name the "
                            "output that it judges: Task(output=...).") from error
        return value if self._metric.direction == "maximize" else -value

    def _rows(self, number: int, key: int, order: Sequence[int]) -> Iterator[Rows]:
        """The batches ``order`` of the augmented epoch ``number``, those that are kept from
        memory."""
        keeps = key >= 0 and (self._task.augment is not None or self._samples.collated
                              or (not self._samples.in_memory and self._samples.habits.augments))
        missing = [index for index in order if (number, index) not in self._kept]
        fresh = self._fresh(number, missing)
        new = set(missing)
        for index in order:
            if index not in new:
                yield self._kept.get((number, index))
                continue
            rows = next(fresh)
            if keeps:
                self._kept.keep((number, index), rows)
            yield rows

    def _fresh(self, number: int, wanted: Sequence[int]) -> Iterator[Rows]:
        if not wanted:
            return
        chosen = self._chosen(number)
        parts = [self._part(index) for index in wanted]
        if self._task.augment is not None and self._samples.in_memory:
            one = next(self._samples.stream([chosen[:1]]))
            if size_bytes(one[0]) * len(chosen) <= EPOCH_BYTES:
                rows = self._augmented(next(self._samples.stream([chosen])),
                                       self._seed * 15485863 + number)
                yield from (mapped(itemgetter(part), rows) for part in parts)
                return
        stream = self._samples.stream([chosen[part] for part in parts], self._seed, number)
        for index, rows in zip(wanted, stream, strict=True):
            yield self._augmented(rows, seed_of(self._seed, number, index))

    def _chosen(self, number: int) -> list[int]:
        """The samples of the augmented epoch ``number``, in the order of its batches."""
        total = len(self._samples)
        per_pass = max(total // self._size, 1)
        shuffle = torch.Generator().manual_seed(self._seed * 104729 + number // per_pass)
        start = number % per_pass * self._size
        chosen: list[int] = torch.randperm(total, generator=shuffle)[
            start:start + self._size].tolist()
        return chosen

    def _part(self, index: int) -> slice:
        step = self._task.batch_size
        last = index == self.batches_per_epoch - 1
        return slice(index * step, self._size if last else (index + 1) * step)

    def _augmented(self, rows: Rows, seed: int) -> Rows:
        if self._task.augment is None:
            return rows
        inputs, targets = rows
        given = inputs if len(inputs) > 1 else inputs[0]
        said = f"It got {described(given)}."
        with kept_generators(), user_code("augment", said):
            seed_generators(seed % 2**32)
            changed = self._task.augment(given, seed)
        parts = tuple(leaves(changed))
        if len(parts) != len(inputs) or any(
                part.dim() == 0 or len(part) != len(before)
                for part, before in zip(parts, inputs, strict=True)):
            raise TaskError(f"augment: gave {described(changed)}, expected as many inputs and "
                            f"samples as it got. {said}")
        return parts, targets


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.numpy()
