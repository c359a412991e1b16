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
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.protocol import Lease
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


class Workshop:
    """Does builder jobs in ``folder`` (the campaign folder); keeps the last builders warm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._builders: OrderedDict[tuple[str, int], Builder] = OrderedDict()

    def do(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The result of one job. Raises FleetfrontError with a reason the ledger can keep."""
        if kind == "inspect":
            return {"inspection": inspect(self.folder / "artifacts" / payload["sha256"])}
        torch.set_num_threads(int(payload.get("threads", 1)))
        builder = self._builder(payload["task"], int(payload.get("seed", 0)))
        if kind == "evaluate":
            return {"evaluation": _evaluation(self._evaluated(builder, payload))}
        recipe = Recipe.from_list(payload["recipe"])
        target = Target(**{**payload["target"],
                           "number_formats": frozenset(payload["target"]["number_formats"])})
        if kind == "compress":
            return self._result(builder.compress(recipe, target))
        return self._result(builder.train(recipe, payload["fidelity"], target))

    def _evaluated(self, builder: Builder, payload: dict[str, Any]) -> Evaluation:
        """Of a file, or of the outputs that a device computed with it."""
        folder, outputs = self.folder / "artifacts", payload.get("outputs")
        if outputs is not None:
            return builder.judge(folder / outputs["sha256"], payload["split"])
        return builder.evaluate(folder / payload["sha256"], payload["split"])

    def _builder(self, name: str, seed: int) -> Builder:
        if (name, seed) not in self._builders:
            self._builders[name, seed] = Builder(task_of(name), seed, self.folder / "builds")
        self._builders.move_to_end((name, seed))
        if len(self._builders) > BUILDERS_KEPT:
            self._builders.popitem(last=False)
        return self._builders[name, seed]

    def _result(self, build: Build) -> dict[str, Any]:
        place_artifact(self.folder / "artifacts", build.content)
        return {
            "build_key": build.key, "sha256": build.sha256, "file_bytes": len(build.content),
            "graph_key": build.graph_key, "probe_outputs": build.probe_outputs,
            "report": build.report, "built_steps": build.built_steps,
            "reused_steps": build.reused_steps, "cached_bytes": build.cached_bytes,
            "evaluation": _evaluation(build.evaluation) if build.evaluation else None,
        }


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    bits = base64.b64encode(np.packbits(evaluation.correct).tobytes()).decode()
    return {"metric": evaluation.metric, "value": evaluation.value, "n": evaluation.n,
            "correct": bits}


def work(client: CoordinatorClient, workshop: Workshop, lease: Lease) -> None:
    """One leased job to its result: a candidate that fails never ends the builder."""
    try:
        result = workshop.do(lease.kind, dict(lease.payload))
    except BuildError as error:
        client.put_failed(lease, error.reason, str(error))
    except FleetfrontError as error:
        client.put_failed(lease, "user", str(error))
    except OSError as error:
        client.put_failed(lease, *_disk(error))
    except Exception as error:  # noqa: BLE001  process boundary: the campaign goes on without it
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
