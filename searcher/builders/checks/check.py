"""The check of a task: everything that a campaign needs of it, looked at once.

    task -> model -> splits -> samples -> outputs -> targets -> metric -> baseline -> step -> file
"""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from searcher.builders.checks import data, model, quality, reading
from searcher.builders.checks.look import Look, look, read, tensors_of
from searcher.builders.checks.rows import Table
from searcher.builders.checks.targets import check_targets
from searcher.jobs.check_task import TaskCheck
from searcher.ledger.tables.search_state import TaskFacts
from searcher.tasks.base import SPLITS, SampleBatch, Samples, Task
from searcher.tasks.catalog import task as task_of
from searcher.tasks.data.seeding import kept_generators, seed_generators
from searcher.tasks.metrics import registry as metrics
from strategies.target import Target

LOOK_S = 15.0
EXPORTED_SAMPLES = 8


def check(name: str, seed: int, target: Target, look_s: float = LOOK_S) -> TaskCheck:
    """The table of the task ``name`` with the model of ``seed``, whose file is for ``target``. Each
    split is looked at for at most ``look_s``. What the user's code raises is a row. torch computes
    with one thread from now on, as builders do while they train candidates."""
    table = Table()
    torch.set_num_threads(1)
    began_s = time.perf_counter()
    task = table.attempt("task", lambda: task_of(name))
    if task is None:
        table.skip(("model", "data", "metric", "training step", "export"), "there is no task")
        return TaskCheck(tuple(table.rows))
    with kept_generators():
        seed_generators(seed)
        found = _check(table, task, target, look_s)
        digest = reading.check_digest(table, name, task, time.perf_counter() - began_s)
    facts = None if found is None or digest is None or table.failed else _facts(
        task, found, digest)
    return TaskCheck(tuple(table.rows), facts)


@dataclass(frozen=True)
class _Found:
    """What the facts are made of."""

    looks: Mapping[str, Look]
    parameters: int
    step_s: float
    file_bytes: int
    metric: str


def _check(table: Table, task: Task, target: Target, look_s: float) -> _Found | None:
    module = table.attempt("model", task.module)
    runs = module is not None and model.check_model(table, module, _by_recipe(task))
    model.check_device(table, task)
    samples = _splits(table, task)
    looks = {} if samples is None else _looks(table, task, samples, look_s)
    if samples is None or not looks:
        table.skip(("outputs", "metric", "training step", "export"),
                   "no sample could be read")
        return None
    data.check_inputs(table, looks)
    data.check_overlap(table, looks)
    batch = _sound_batch(task, samples, looks)
    if module is None or not runs or batch is None:
        table.skip(("outputs", "metric", "training step", "export"),
                   "there is no model that runs" if batch is not None else
                   "no training sample could be read")
        return None
    outputs = model.check_outputs(table, task, module, batch)
    if outputs is None:
        table.skip(("metric", "training step", "export"), "the model gives no outputs")
        return None
    metric_text = _judge(table, task, module, samples, looks, batch, outputs)
    augmented = model.check_augmentation(table, task, batch)
    step_s = None if augmented is None else model.check_step(table, task, module, augmented)
    file_bytes = model.check_export(
        table, task, module, target, data.first(batch, EXPORTED_SAMPLES), outputs.named)
    reading.check_reading(table, task, samples, looks)
    if step_s is None or file_bytes is None or metric_text is None or len(looks) < len(samples):
        return None
    return _Found(looks, sum(p.numel() for p in module.parameters()), step_s, file_bytes,
                  metric_text)


def _by_recipe(task: Task) -> bool:
    return task.baseline is not None and task.baseline.max_epochs > 0


def _splits(table: Table, task: Task) -> Mapping[str, Samples] | None:
    """The splits, with a row for each; None where there is none."""
    samples = table.attempt("data", lambda: {split: task.samples(split) for split in SPLITS})
    if samples is None:
        return None
    for split, found in samples.items():
        carved = f"; {task.carved}" if split == "test" and task.carved else ""
        if 0 < len(found) < data.FEW_SAMPLES and split != "training":
            table.warn(f"{split} split", f"{len(found):,} samples{carved}",
                       f"Below {data.FEW_SAMPLES} samples, small losses of quality cannot be told "
                       "from chance. Give more.")
        else:
            table.ok(f"{split} split", f"{len(found):,} samples{carved}")
    return samples


def _looks(table: Table, task: Task, samples: Mapping[str, Samples],
           look_s: float) -> dict[str, Look]:
    """A look at each split that can be read."""
    found = {}
    for split in samples:
        looks = functools.partial(look, samples[split], split, task.input_names, look_s)
        seen = table.attempt(f"{split} samples", looks)
        if seen is not None:
            found[split] = seen
    return found


def _sound_batch(task: Task, samples: Mapping[str, Samples],
                 looks: Mapping[str, Look]) -> SampleBatch | None:
    """A batch of the first training samples without NaN, so that these do not hide what else is
    wrong; None where there is none."""
    if "training" not in looks:
        return None
    inputs, targets = looks["training"].inputs.values(), looks["training"].targets.values()
    bad = {number for bad in (*(values.bad for values in inputs),
                              *(values.bad for values in targets)) for number in bad}
    numbers = [n for n in range(len(samples["training"])) if n not in bad][:task.batch_size]
    return read(samples["training"], numbers) if numbers else None


def _judge(table: Table, task: Task, module: nn.Module, samples: Mapping[str, Samples],
           looks: Mapping[str, Look], batch: SampleBatch, outputs: "model.Outputs") -> str | None:
    """Rows of targets, metric and baseline; the metric's text, None where it does not fit."""
    metric = table.attempt("metric", lambda: metrics.named(task.metric))
    if metric is None:
        return None
    judged = outputs.named[outputs.judged]
    keys = list(tensors_of(batch.targets))
    before = len(table.rows)
    check_targets(table, looks, keys[0] if keys else "", metric,
                  judged.shape[1] if judged.ndim >= 2 and judged.shape[1] > 1 else None,
                  _by_recipe(task))
    bad_targets = any(row.verdict == "error" for row in table.rows[before:])
    fits = quality.check_metric(table, task, metric, quality.array_of(judged),
                                quality.arrays_of(batch.targets))
    if fits and not _by_recipe(task):
        if bad_targets or "validation" not in looks:
            table.skip(("baseline",), "the targets are not sound")
        else:
            training = looks["training"].targets.get(keys[0]) if keys else None
            quality.check_quality(table, task, metric, module, samples["validation"], training)
    return metric.text if fits else None


def _facts(task: Task, found: _Found, digest: "reading.Digest") -> TaskFacts:
    training = found.looks["training"]
    taken = min(task.epoch_samples or training.total, training.total)
    read_s = training.seconds / training.seen * taken
    steps = -(-taken // task.batch_size)
    least_most = None if task.baseline is None or not _by_recipe(task) else (
        min(task.baseline.cycle_epochs, task.baseline.max_epochs), task.baseline.max_epochs)
    return TaskFacts(
        digest=digest.whole, parts=digest.parts, metric=found.metric,
        samples={split: look.total for split, look in found.looks.items()},
        epochs=dict(task.epochs), baseline_epochs=least_most, parameters=found.parameters,
        file_bytes=found.file_bytes, step_s=found.step_s,
        epoch_s=found.step_s * steps + read_s,
        data_bytes=sum(look.total * look.sample_bytes for look in found.looks.values()))
