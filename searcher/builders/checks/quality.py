"""Rows about the metric: whether it fits outputs and targets, and the baseline against chance."""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from searcher.builders.checks.look import TargetLook, read, spread
from searcher.builders.checks.rows import Table
from searcher.errors import UserError
from searcher.tasks.base import Task
from searcher.tasks.data.samples import Samples
from searcher.tasks.metrics.base import Metric
from searcher.tasks.metrics.registry import METRICS, named
from searcher.tasks.metrics.scoring import Scored, Scoring
from searcher.tasks.user_code import described, raised
from strategies.signature import named_outputs

LONGEST_EVALUATION_S = 20.0
SUMS_TO_ONE = 1e-3


def check_metric(table: Table, task: Task, metric: Metric, outputs: np.ndarray,
                 targets: Any) -> bool:
    """Whether the metric takes the outputs (n, ...) and targets (n, ...) of one batch, with a
    row."""
    wanted = targets if metric.against == "targets" else outputs
    try:
        metric.scores(outputs, wanted)
    except Exception as error:  # noqa: BLE001  a user's own metric may raise anything
        said = str(error) if isinstance(error, ValueError) else raised(error)
        fitting = list(_fitting(outputs, targets, metric))
        table.fail("metric", f"{metric.text!r} does not fit: {said.rstrip('.')}. Given: outputs "
                   f"{described(outputs)}, targets {described(targets)}.",
                   f"These metrics fit: {', '.join(fitting)}." if fitting else
                   "Give a metric of your own: metric=\"package.module:Class\".")
        return False
    compared = "the targets" if metric.against == "targets" else (
        "the outputs of the uncompressed model")
    table.ok("metric", ", ".join(part for part in (
        metric.text, metric.unit, metric.direction) if part)
        + f"; compares outputs with {compared}")
    _activation(table, task, metric, outputs)
    return True


def _fitting(outputs: np.ndarray, targets: Any, refused: Metric) -> Iterator[str]:
    for name in METRICS.names():
        try:
            metric = named(name)
            metric.scores(outputs, targets if metric.against == "targets" else outputs)
        except (UserError, ValueError, TypeError, IndexError, AttributeError):
            continue
        if name != refused.name and metric.against == refused.against:
            yield name


def _activation(table: Table, task: Task, metric: Metric, outputs: np.ndarray) -> None:
    """A warning where the loss applies an activation that the model has applied already."""
    loss = getattr(task.loss, "__name__", type(task.loss).__name__).lower().replace("_", "")
    shares = outputs.dtype.kind == "f" and outputs.size and bool(
        (outputs >= 0).all() and (outputs <= 1).all())
    if not shares:
        return
    if "binarycrossentropywithlogits" in loss or "bcewithlogits" in loss:
        table.warn("loss", "The model's outputs are within 0 to 1, and the loss "
                   f"{loss_name(task)} applies a sigmoid itself.",
                   "Return the logits: leave the sigmoid out of the model.")
    elif (loss in ("crossentropy", "crossentropyloss") and outputs.ndim >= 2
          and outputs.shape[1] > 1 and bool(
              (abs(outputs.sum(axis=1) - 1) < SUMS_TO_ONE).all())):
        table.warn("loss", "The model's outputs are within 0 to 1 and sum to 1, and the loss "
                   f"{loss_name(task)} applies a softmax itself.",
                   "Return the logits: leave the softmax out of the model.")


def loss_name(task: Task) -> str:
    return str(getattr(task.loss, "__name__", type(task.loss).__name__))


def check_quality(table: Table, task: Task, metric: Metric, model: nn.Module, samples: Samples,
                  training: TargetLook | None) -> None:
    """A row of the metric of a model that is the baseline as it is given, on validation, against
    an answer that is always the same."""
    if metric.against != "targets":
        table.skip(("baseline",), f"{metric.text} compares files with the baseline")
        return
    found = table.attempt("baseline", lambda: _scored(task, metric, model, samples, training))
    if found is None:
        return
    scored, constant, seen = found
    said = f"{metric.text} {scored.value:.4g} on {seen:,} validation samples"
    if constant is None:
        table.ok("baseline", said)
        return
    said += f"; a constant answer has {constant.value:.4g}"
    sign = 1 if metric.direction == "maximize" else -1
    low = scored.value if scored.interval is None else (
        scored.interval[0] if sign > 0 else scored.interval[1])
    if sign * (low - constant.value) > 0:
        table.ok("baseline", said)
        return
    better = sign * (scored.value - constant.value) > 0
    table.fail("baseline", f"{said}. The model that is given as trained is "
               f"{'not clearly ' if better else 'no '}better than chance.",
               "If it is not trained, give baseline=BaselineTraining(...). If it is, compare "
               "inputs and labels with those of its training (scale, order of channels, order of "
               "classes).")


def _scored(task: Task, metric: Metric, model: nn.Module, samples: Samples,
            training: TargetLook | None) -> tuple[Scored, Scored | None, int]:
    """Of the model and of a constant answer, over as many evenly spread samples as
    ``LONGEST_EVALUATION_S`` allows."""
    parts = list(spread(len(samples)))
    began_s = time.perf_counter()
    _judged(task, model, samples, parts[0])
    each_s = time.perf_counter() - began_s
    parts = sorted(islice(parts, max(int(LONGEST_EVALUATION_S / max(each_s, 1e-9)), 1)))
    n = sum(map(len, parts))
    scoring, constant = Scoring(metric, n), Scoring(metric, n)
    has_constant = True
    for part in parts:
        outputs, targets = _judged(task, model, samples, part)
        scoring.add(outputs, targets)
        always = _constant(metric, outputs, training)
        has_constant = has_constant and always is not None
        if always is not None and has_constant:
            try:
                constant.add(always, targets)
            except ValueError:
                has_constant = False
    return scoring.result(), constant.result() if has_constant else None, n


def _judged(task: Task, model: nn.Module, samples: Samples,
            part: Sequence[int]) -> tuple[np.ndarray, Any]:
    batch = read(samples, part)
    with torch.no_grad():
        named_ = named_outputs(model(*batch.inputs), task.outputs)
    judged = named_[task.output or next(iter(named_))]
    return array_of(judged), arrays_of(batch.targets)


def array_of(value: torch.Tensor) -> np.ndarray:
    """numpy has no bfloat16."""
    value = value.detach().cpu()
    found: np.ndarray = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return found


def _constant(metric: Metric, outputs: np.ndarray, training: TargetLook | None
              ) -> np.ndarray | None:
    """Outputs that always answer the most frequent label, or the mean, of the training split."""
    if training is None or not training.count:
        return None
    always = np.zeros_like(outputs)
    if metric.answer == "values":
        return always + training.total / training.count
    if not training.counts:
        return None
    label = max(training.counts, key=lambda value: training.counts[value])
    if metric.answer == "logit":
        return always + (1 if label == 1 else -1)
    if outputs.ndim < 2 or not 0 <= label < outputs.shape[1]:
        return None
    always[:, label] = 1
    return always


def arrays_of(targets: Any) -> Any:
    """The structure of targets with arrays for its tensors."""
    if isinstance(targets, torch.Tensor):
        return array_of(targets)
    if isinstance(targets, Mapping):
        return {key: arrays_of(part) for key, part in targets.items()}
    return tuple(arrays_of(part) for part in targets)
