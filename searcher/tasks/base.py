"""A task: model, splits, loss and metric, and how long a candidate is trained."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from searcher.errors import TaskError
from searcher.tasks.data.carving import Sources, sources_of
from searcher.tasks.data.layout import Forward, Layout, layout_of
from searcher.tasks.data.samples import Samples
from searcher.tasks.data.splits import SPLITS, SampleBatch, Split
from searcher.tasks.digest import digest_of, fingerprint_of
from searcher.tasks.field_checks import check_fields
from searcher.tasks.model import BaselineTraining, made, own_copy, precision_of
from searcher.tasks.user_code import user_code

__all__ = ["SPLITS", "BaselineTraining", "SampleBatch", "Samples", "Split", "Task"]


class UnstatedEpochs(dict[str, int]):
    """The epochs of a task whose author leaves them to the search."""

    def __init__(self) -> None:
        super().__init__(short=2, full=6, extended=10)


@dataclass(frozen=True, eq=False)
class Task:
    """What is compressed: a model, its data, and how results are judged.

    ``model`` is a module, or a function that makes one. With ``baseline`` it is trained first (a
    module from its weights, a function under the campaign's seed); without, it is trained already
    and is the baseline as it is. It is copied, never changed.

    ``training``, ``validation`` and ``test`` are each a map-style dataset, a DataLoader (its
    dataset, collate_fn and workers are used), a pair ``(inputs, targets)`` of arrays or tensors,
    or a Split. ``load`` gives all of them by name instead, when they are first needed. A test
    split that is missing or empty is half of the validation split (``carved`` says so).

    A sample is ``(input, target)``, ``((input, ...), target)``, ``({name: input}, target)``, or a
    dictionary of inputs and the target under the key ``target``. Inputs reach the model as the
    data give them; only float64 becomes the model's own precision. Integers of targets become
    int64, floating point numbers of targets the model's precision.

    ``loss`` takes the model's answer as it is and the targets, and gives a scalar. ``metric``
    names one of ``searcher.tasks.metrics``; it judges the output named ``output``, by default the
    first. ``augment`` changes training inputs, given a seed: a tensor, or the tuple of tensors of
    a model with several inputs; the result depends on its arguments only. A dataset may also
    augment its samples itself: it is read under a fixed seed for each sample and epoch.

    ``epochs`` counts from the start, for ``short``, ``full`` and, where candidates of the front
    are to be trained further, ``extended``. Where they are not stated, a search derives them from
    its budget. An epoch takes ``epoch_samples`` of the training split, by default all. After
    ``augmented_epochs`` epochs the same batches come again. A network of few operations learns
    slower, and an epoch of it costs less: it gets up to ``longest_full`` times the epochs beyond
    the short ones.

    ``device`` is where builders train: ``auto`` is ``cuda`` where there is one. ``workers`` is
    the number of processes that read samples. ``inputs`` and ``outputs`` are the names in the
    file, by default the parameters of ``forward`` and the keys of its answer. ``groups`` names the
    group of a sample (as the dataset gives it) for intervals by group.

    ``identity`` holds everything that changes the task's results and is no field of this class;
    it replaces the automatic fingerprint of weights and data in ``digest``.

    Raises TaskError that names the field where a field is wrong.
    """

    name: str
    model: nn.Module | Callable[[], nn.Module]
    training: Any = None
    validation: Any = None
    test: Any = None
    load: Callable[[], Mapping[str, object]] | None = field(default=None, kw_only=True)
    loss: Callable[[Any, Any], Tensor] = field(default=nn.functional.cross_entropy, kw_only=True)
    metric: str = field(default="accuracy", kw_only=True)
    augment: Callable[[Any, int], Any] | None = field(default=None, kw_only=True)
    baseline: BaselineTraining | None = field(default=None, kw_only=True)
    epochs: Mapping[str, int] = field(default_factory=UnstatedEpochs, kw_only=True)
    batch_size: int = field(default=64, kw_only=True)
    epoch_samples: int | None = field(default=None, kw_only=True)
    augmented_epochs: int = field(default=12, kw_only=True)
    longest_full: float = field(default=1.0, kw_only=True)
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", kw_only=True)
    workers: int = field(default=0, kw_only=True)
    inputs: Sequence[str] = field(default=(), kw_only=True)
    outputs: Sequence[str] = field(default=(), kw_only=True)
    output: str | None = field(default=None, kw_only=True)
    target: str | None = field(default=None, kw_only=True)
    groups: Callable[[Any], str] | None = field(default=None, kw_only=True)
    identity: Mapping[str, object] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_fields(self)

    def module(self) -> nn.Module:
        """A new copy of the model. A function whose model is to be trained makes it with the
        random numbers that the generators give now."""
        if isinstance(self.model, nn.Module) or self.baseline is None:
            return own_copy(self._prototype)
        return made(self.model)

    def samples(self, split: str) -> Samples:
        """One of ``SPLITS``. Raises TaskError where the data or ``load`` are wrong."""
        return self._samples[split]

    @property
    def states_epochs(self) -> bool:
        """Whether the author says how long candidates are trained, in whatever numbers."""
        return not isinstance(self.epochs, UnstatedEpochs)

    @property
    def input_names(self) -> tuple[str, ...]:
        """One name for each input of the model, in the order of its ``forward``."""
        return self._layout.names

    @property
    def carved(self) -> str | None:
        """How the test split was carved out of another; None where the data have one."""
        return self._sources.carved

    @functools.cached_property
    def digest(self) -> str:
        """sha256 over everything that a build of this task depends on, code apart; the same in
        every process. Without ``identity`` it needs the model, and reads a few samples."""
        return digest_of(self, None if self.identity is not None else self.fingerprint)

    @functools.cached_property
    def fingerprint(self) -> Mapping[str, str]:
        """What the model and the data are, by part (``weights``, ``structure``, the splits,
        ``loss``, ``augment``): of each split, the number of samples and a few of them."""
        data = {split: self.samples(split).habits.digest for split in SPLITS}
        return fingerprint_of(self, self._prototype, data)

    @functools.cached_property
    def _prototype(self) -> nn.Module:
        """The model for everything but training, made under a fixed seed where it is made."""
        return made(self.model, seed=0)

    @functools.cached_property
    def _sources(self) -> Sources:
        if self.load is None:
            given = {split: getattr(self, split) for split in SPLITS}
            return sources_of(given, self.target)
        with user_code("load"):
            loaded = self.load()
        if not isinstance(loaded, Mapping):
            raise TaskError(f"load: gave {type(loaded).__name__}, expected a dictionary with the "
                            "keys training, validation and test.")
        return sources_of(loaded, self.target)

    @functools.cached_property
    def _layout(self) -> Layout:
        source = self._sources.of["training"]
        return layout_of(source.form(), Forward.of(self._prototype), self.inputs, self.target,
                         source.split)

    @functools.cached_property
    def _samples(self) -> Mapping[str, Samples]:
        precision: torch.dtype = precision_of(self._prototype)
        return {split: Samples(source, self._layout, precision, self.workers)
                for split, source in self._sources.of.items()}
