"""Batches that run through one model in step, so that a layer can be changed when all have reached
it and each goes on from there: a repair layer by layer costs one forward pass.

    batch 0   conv1 | conv2 | conv3 |          | all wait, the layer is solved
    batch 1   conv1 | conv2 | conv3 |
    batch 2                 | conv3 |          joins where less memory is needed

Each run is a thread. glibc gives threads heaps of their own, which keep what they once took: with
``MALLOC_ARENA_MAX=1`` in the environment all runs share one.
"""

import itertools
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from strategies.dataflow import DataFlow, evaluating
from strategies.tensor_trees import leaves

BATCH = 64


def in_memory(flow: DataFlow, samples: int, limit: int) -> tuple[int, dict[str, int]]:
    """The size of a batch, and how many samples may wait at each layer and all later ones."""
    alive = flow.alive()
    later = list(itertools.accumulate(reversed(alive), max))[::-1]
    size = max(1, min(BATCH, samples, limit // max(4 * max(alive, default=1), 1)))
    most = {name: limit // max(later[calls[0].first], 1) for name, calls in flow.calls.items()
            if calls[0].first < len(later)}
    return size, most


class _Abandoned(BaseException):
    """Ends a run that is not needed to its end."""


class Lockstep:
    """Runs of ``model``, one for each batch, of which one at a time computes. A context manager:
    leaving it ends all runs."""

    def __init__(self, model: nn.Module, layers: Sequence[str],
                 batches: Sequence[tuple[Tensor, ...]]) -> None:
        self._model, self._batches = model, batches
        self._runs: dict[int, _Run] = {}
        self._hooks = [model.get_submodule(name).register_forward_pre_hook(
            _stopping(name), with_kwargs=True)
                       for name in layers]
        self._evaluating = evaluating(model)

    def __enter__(self) -> Self:
        self._evaluating.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for run in self._runs.values():
            run.end()
        for hook in self._hooks:
            hook.remove()
        self._evaluating.__exit__(kind, error, trace)

    def inputs_of(self, layer: str, batch: int) -> Tensor | None:
        """What ``layer`` gets from ``batch``, which goes on until there and waits. None when the
        run ends before; what it raises is raised here."""
        if batch not in self._runs:
            self._runs[batch] = _Run(self._model, self._batches[batch])
        return self._runs[batch].until(layer)


class _Run(threading.Thread):
    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        super().__init__(daemon=True)
        self._model, self._inputs = model, inputs
        self._may_run, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._wanted: str | None = None
        self._seen: Tensor | None = None
        self._error: BaseException | None = None
        self._ended = False

    def until(self, layer: str) -> Tensor | None:
        if self._ended:
            return None
        self._wanted, self._seen = layer, None
        if self.ident:
            self._may_run.release()
        else:
            self.start()
        self._waits.acquire()
        if self._error is not None:
            raise self._error
        return self._seen

    def end(self) -> None:
        self._wanted, self._seen = None, None
        while self.is_alive():
            self._may_run.release()
            self.join(0.1)

    def run(self) -> None:
        try:
            with torch.no_grad():
                self._model(*(tensor.clone() for tensor in self._inputs))
        except _Abandoned:
            pass
        except Exception as error:  # noqa: BLE001  raised where the run is waited for
            self._error = error
        finally:
            self._inputs, self._seen = (), None
            self._ended = True
            self._waits.release()

    def stop(self, layer: str, inputs: Any) -> None:
        """Called in this thread, before ``layer``."""
        if layer != self._wanted:
            return
        self._seen = next(leaves(inputs), None)
        self._waits.release()
        self._may_run.acquire()
        if self._wanted is None:
            raise _Abandoned


def _stopping(layer: str) -> Any:
    def stop(module: nn.Module, inputs: Any, named: Any) -> None:
        run = threading.current_thread()
        if isinstance(run, _Run):
            run.stop(layer, (inputs, named))
    return stop
