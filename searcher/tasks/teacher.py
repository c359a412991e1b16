"""The outputs of the uncompressed model, from which compressed ones learn."""

import torch
from torch import Tensor, nn

from searcher.tasks.data.kept import TEACHER_BYTES
from searcher.tasks.training_data import TrainingSplit
from strategies.base import Batch


class CachedTeacher:
    """``strategies.base.Teacher`` that computes each batch's outputs once while they fit in
    ``TEACHER_BYTES``. ``model`` is on the device of the batches."""

    def __init__(self, model: nn.Module, data: TrainingSplit) -> None:
        self._model, self._data = model.eval(), data
        self._outputs: dict[tuple[int, int], Tensor] = {}
        self._kept_bytes = 0

    def __call__(self, batch: Batch) -> Tensor:
        """The teacher's main output for ``batch``, without gradient."""
        kept = self._outputs.get(batch.key)
        if kept is not None:
            return kept
        with torch.no_grad():
            found = self._data.main_output(self._model(*batch.inputs)).detach()
        # A key below zero comes once only.
        if batch.key[0] >= 0 and self._kept_bytes + found.nbytes <= TEACHER_BYTES:
            self._kept_bytes += found.nbytes
            self._outputs[batch.key] = found
        return found
