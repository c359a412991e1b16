"""A builder process: lease a job, build or evaluate, put the result; ends with its parent.

    lease --> compress | train | evaluate | inspect --> artifact (write, fsync, rename) --> result
      ^                                                                             |
      +-----------------------------------------------------------------------------+
"""

import argparse
import base64
import errno
import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.protocol import Lease
from searcher.artifacts.formats import registry as formats
from searcher.artifacts.inspection import inspect
from searcher.artifacts.store import place_artifact
from searcher.builders.builder import Build, Builder
from searcher.builders.evaluation import Evaluation
from searcher.client.http import CoordinatorClient
from searcher.errors import BuildError, FleetfrontError, ProtocolError
from searcher.spec.recipe import Recipe
from searcher.tasks.catalog import task as task_of
from searcher.tasks.datasets.pinned_files import UPLOADED
from searcher.workers.parent_death import die_with_parent
from strategies.target import Target

BUILDERS_KEPT = 2


@dataclass(frozen=True)
class InspectJob:
    """Inspect an uploaded file."""

    sha256: str
    file_format: str


@dataclass(frozen=True)
class EvaluateJob:
    """Evaluate a file on the host, or the outputs (.npy) that a device computed with it."""

    task: str
    seed: int
    threads: int
    sha256: str
    split: str
    file_format: str
    outputs_sha256: str | None


@dataclass(frozen=True)
class BuildJob:
    """Build a recipe; ``fidelity`` is ``untrained`` or one that the task gives epochs for."""

    task: str
    seed: int
    threads: int
    recipe: Recipe
    fidelity: str
    target: Target


Job = InspectJob | EvaluateJob | BuildJob


@dataclass(frozen=True)
class Inspection:
    """What the inspecting process answered: a JSON object that the coordinator checks."""

    document: Mapping[str, Any]


Result = Inspection | Evaluation | Build


def job_of(kind: str, payload: Mapping[str, Any]) -> Job:
    """The job of a lease; its payload was checked by the coordinator. Raises UserError, KeyError,
    TypeError, ValueError."""
    file_format = str(payload.get("format", formats.DEFAULT))
    if kind == "inspect":
        return InspectJob(payload["sha256"], file_format)
    task, seed = str(payload["task"]), int(payload.get("seed", 0))
    threads = int(payload.get("threads", 1))
    if kind == "evaluate":
        outputs = payload.get("outputs")
        return EvaluateJob(task, seed, threads, payload["sha256"], payload["split"], file_format,
                           None if outputs is None else outputs["sha256"])
    fidelity = "untrained" if kind == "compress" else payload["fidelity"]
    return BuildJob(task, seed, threads, Recipe.from_list(payload["recipe"]), fidelity,
                    Target.of(payload["target"]))


def document_of(result: Result) -> dict[str, Any]:
    """The result of a job as the coordinator reads it. Raises BuildError."""
    if isinstance(result, Inspection):
        return {"inspection": dict(result.document)}
    if isinstance(result, Evaluation):
        return {"evaluation": _evaluation(result)}
    return {
        "build_key": result.key, "sha256": result.sha256, "file_bytes": len(result.content),
        "graph_key": result.graph_key, "probe_outputs": result.probe_outputs,
        "number_format": result.number_format, "report": asdict(result.report),
        "built_steps": result.built_steps, "reused_steps": result.reused_steps,
        "cached_bytes": result.cached_bytes,
        "evaluation": _evaluation(result.evaluation) if result.evaluation else None,
    }


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """The ledger keeps one bit per sample."""
    right = evaluation.scores.astype(bool)
    if not np.array_equal(right, evaluation.scores):
        raise BuildError(f"The scores of the metric {evaluation.metric!r} are not all 0 or 1; the "
                         "ledger cannot keep others yet.", "metric")
    return {"metric": evaluation.metric, "value": evaluation.value, "n": evaluation.n,
            "correct": base64.b64encode(np.packbits(right).tobytes()).decode()}


class Workshop:
    """Does builder jobs in ``folder`` (the campaign folder); keeps the last builders warm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._artifacts = folder / "artifacts"
        self._builders: OrderedDict[tuple[str, int], Builder] = OrderedDict()

    def do(self, job: Job) -> Result:
        """The result of one job; the file of a build is in ``artifacts/``. Raises FleetfrontError
        with a reason that the ledger can keep."""
        if isinstance(job, InspectJob):
            return Inspection(inspect(self._artifacts / job.sha256, None, job.file_format))
        torch.set_num_threads(job.threads)
        builder = self._builder(job.task, job.seed)
        if isinstance(job, EvaluateJob):
            if job.outputs_sha256 is not None:
                return builder.score_outputs(self._artifacts / job.outputs_sha256, job.split)
            return builder.evaluate(self._artifacts / job.sha256, job.split, job.file_format)
        build = (builder.compress(job.recipe, job.target) if job.fidelity == "untrained"
                 else builder.train(job.recipe, job.fidelity, job.target))
        place_artifact(self._artifacts, build.content)
        return build

    def _builder(self, name: str, seed: int) -> Builder:
        if (name, seed) not in self._builders:
            self._builders[name, seed] = Builder(task_of(name), seed, self.folder / "builds")
        self._builders.move_to_end((name, seed))
        if len(self._builders) > BUILDERS_KEPT:
            self._builders.popitem(last=False)
        return self._builders[name, seed]


def work(client: CoordinatorClient, workshop: Workshop, lease: Lease) -> None:
    """One leased job to its result: a candidate that fails never ends the builder."""
    try:
        result = document_of(workshop.do(job_of(lease.kind, lease.payload)))
    except BuildError as error:
        client.put_failed(lease, error.reason, str(error))
    except FleetfrontError as error:
        client.put_failed(lease, "user", str(error))
    except OSError as error:
        client.put_failed(lease, *_disk(error))
    except Exception as error:  # noqa: BLE001  process boundary: the campaign continues without it
        client.put_failed(lease, "build", f"{type(error).__name__}: {error}")
    else:
        client.put_done(lease, result)


def _disk(error: OSError) -> tuple[str, str]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full", f"{error}. Free space on this disk, then run the same command again."
    return "io", f"{error}."


def beat(client: CoordinatorClient, lease: Lease, ended: threading.Event) -> None:
    """Keep the lease alive until ``ended``; losing it ends the process: its job is another's."""
    while not ended.wait(lease.ttl_s / 4):
        try:
            client.heartbeat(lease)
        except ProtocolError:
            os._exit(3)
        except FleetfrontError as error:
            logging.getLogger(__name__).warning("no heartbeat: %s", error)


def serve(url: str, token: str, folder: Path, fingerprint: str | None = None) -> None:
    """Lease and work until killed."""
    os.environ[UPLOADED] = str(folder / "artifacts")
    workshop = Workshop(folder)
    with CoordinatorClient(url, token, fingerprint=fingerprint) as client, \
            CoordinatorClient(url, token, fingerprint=fingerprint) as pulse:
        while True:
            lease = client.lease(wait_s=20.0)
            if lease is None:
                continue
            ended = threading.Event()
            beats = threading.Thread(target=beat, args=(pulse, lease, ended), daemon=True)
            beats.start()
            try:
                work(client, workshop, lease)
            except ProtocolError as error:
                logging.getLogger(__name__).warning("result refused: %s", error)
            finally:
                ended.set()
                beats.join()


def main() -> None:
    """``python -m searcher.builders.process --url URL --dir DIR``, its secret on stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--fingerprint", help="of the coordinator's certificate, if it has one")
    arguments = parser.parse_args()
    die_with_parent(arguments.parent_pid)
    serve(arguments.url, sys.stdin.readline().strip(), arguments.dir, arguments.fingerprint)


if __name__ == "__main__":
    main()
