"""What builders do: one function per kind of job, named by the kind's ``execution``.

Each takes the workshop and the request, and returns the document that the kind's ``store`` reads.
Raises FleetfrontError with a reason that the ledger can keep.
"""

import base64
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from searcher.artifacts import inspection
from searcher.artifacts.store import place_artifact
from searcher.builders import scan as scanning
from searcher.builders.builder import Build, Builder
from searcher.builders.checks.check import check
from searcher.builders.evaluation import Evaluation
from searcher.builders.split_labels import labels_of
from searcher.documents import plain
from searcher.jobs.build import BuildRequest
from searcher.jobs.check_task import CheckTaskRequest
from searcher.jobs.evaluate import EvaluateRequest
from searcher.jobs.inspect import InspectRequest
from searcher.jobs.scan import ScanRequest
from searcher.statistics import score_codec
from searcher.statistics.sample_labels import SampleLabels
from searcher.tasks.base import Task
from searcher.tasks.catalog import task as task_of

BUILDERS_KEPT = 2


class Workshop:
    """Works in ``folder`` (the campaign folder); keeps the last builders warm."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.artifacts = folder, folder / "artifacts"
        self._builders: OrderedDict[tuple[str, int], Builder] = OrderedDict()
        self._labels: dict[tuple[str, str], tuple[SampleLabels, ...]] = {}

    def builder(self, task: str, seed: int = 0, threads: int = 1) -> Builder:
        """Of one task with one seed; torch computes with ``threads`` from now on."""
        torch.set_num_threads(threads)
        if (task, seed) not in self._builders:
            self._builders[task, seed] = Builder(task_of(task), seed, self.folder / "builds")
        self._builders.move_to_end((task, seed))
        if len(self._builders) > BUILDERS_KEPT:
            self._builders.popitem(last=False)
        return self._builders[task, seed]

    def labels(self, task: Task, split: str) -> tuple[SampleLabels, ...]:
        """Read once for each task and split: this takes as long as reading the split."""
        key = task.digest, split
        if key not in self._labels:
            self._labels[key] = labels_of(task, split)
        return self._labels[key]


def compress(workshop: Workshop, request: BuildRequest) -> dict[str, object]:
    builder = workshop.builder(request.task, request.seed, request.threads or 1)
    build = builder.compress(request.recipe, request.target, request.repair)
    return _placed(workshop, build, ())


def train(workshop: Workshop, request: BuildRequest) -> dict[str, object]:
    builder = workshop.builder(request.task, request.seed, request.threads or 1)
    build = builder.train(request.recipe, request.fidelity, request.target, request.repair,
                          request.epochs)
    # The labels of the split are stored once, with the baseline.
    labels = () if request.recipe.steps else workshop.labels(builder.task, "validation")
    return _placed(workshop, build, labels)


def evaluate(workshop: Workshop, request: EvaluateRequest) -> dict[str, object]:
    """A file on the host, or the outputs (.npy) that a device computed with it."""
    builder = workshop.builder(request.task)
    if request.outputs is not None:
        found = builder.score_outputs(workshop.artifacts / request.outputs.sha256, request.split)
    else:
        found = builder.evaluate(
            workshop.artifacts / request.sha256, request.split, request.file_format)
    return {"evaluation": _evaluation(found, workshop.labels(builder.task, request.split))}


def check_task(workshop: Workshop, request: CheckTaskRequest) -> dict[str, object]:
    """Of the task that builds of this process use, so that its data are read once."""
    return plain(check(request.task, request.seed, request.target))


def scan(workshop: Workshop, request: ScanRequest) -> dict[str, object]:
    builder = workshop.builder(request.task, request.seed)
    return plain(scanning.scan(builder.prefixes, request))


def inspect(workshop: Workshop, request: InspectRequest) -> dict[str, object]:
    file = workshop.artifacts / request.sha256
    return {"inspection": dict(inspection.inspect(file, None, request.file_format))}


def _placed(workshop: Workshop, build: Build, labels: Sequence[SampleLabels]) -> dict[str, object]:
    """The file of a build put into ``artifacts/``, and what is known of it."""
    place_artifact(workshop.artifacts, build.content)
    return {
        "build_key": build.key, "sha256": build.sha256, "file_bytes": len(build.content),
        "graph_key": build.graph_key, "probe_outputs": build.probe_outputs,
        "number_format": build.number_format, "report": asdict(build.report),
        "built_steps": build.built_steps, "reused_steps": build.reused_steps,
        "cached_bytes": build.cached_bytes,
        "evaluation": _evaluation(build.evaluation, labels) if build.evaluation else None,
    }


def _evaluation(evaluation: Evaluation, labels: Sequence[SampleLabels]) -> dict[str, object]:
    """Without the scores where they are too large to be stored."""
    interval = evaluation.interval
    low, high = interval if interval is not None and np.isfinite(interval).all() else (None, None)
    scores = evaluation.scores
    found: dict[str, object] = {"metric": evaluation.metric, "value": evaluation.value,
                                "n": evaluation.n, "low": low, "high": high}
    if scores is not None and score_codec.fits(scores):
        found |= _packed("scores", scores)
    if labels:
        found["labels"] = [{"kind": one.kind, "names": list(one.names),
                            **_packed("codes", one.codes)}
                           for one in labels]
    return found


def _packed(name: str, rows: np.ndarray) -> dict[str, object]:
    content, encoding = score_codec.pack(rows)
    return {name: base64.b64encode(content).decode(), "encoding": encoding}
