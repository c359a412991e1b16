"""A client that keeps ``OPEN`` unfinished jobs per board and for the builders."""

import hashlib
import logging
import threading
from pathlib import Path
from typing import Any

from benchmarks.chaos.models import fake_model
from benchmarks.chaos.processes import BOARDS
from searcher.artifacts.store import place_artifact
from searcher.client.http import CoordinatorClient
from searcher.errors import FleetfrontError, UserError

OPEN = 2
POLL_EVERY_S = 0.25
PLAN = {"name": "chaos", "block_s": 0.0005, "min_blocks": 6, "min_s": 0.0, "max_s": 1.0,
        "gate": 9.0, "fresh_session_every_s": 1.0, "warmup_s": 0.001}
TARGET = {"opset": 13, "ir_version": 7, "number_formats": ["float32"],
          "int8_activations": "uint8"}
FILES = 12

log = logging.getLogger(__name__)


class JobSubmitter(threading.Thread):
    """``client`` sends through the proxy and is used by this thread only; ``submitted`` counts the
    acknowledged jobs."""

    def __init__(self, client: CoordinatorClient, artifacts: Path) -> None:
        super().__init__(name="submitter", daemon=True)
        self._client = client
        self._files = [_placed(artifacts, seed) for seed in range(FILES)]
        self._open: dict[str, list[int]] = {name: [] for name in (*BOARDS, "builder")}
        self._end = threading.Event()
        self.submitted = 0

    def run(self) -> None:
        number = 0
        while not self._end.wait(POLL_EVERY_S):
            try:
                for pool, waiting in self._open.items():
                    waiting[:] = [job for job in waiting if not self._ended(job)]
                    while len(waiting) < OPEN and not self._end.is_set():
                        number += 1
                        waiting.append(self._submit(pool, number))
            except FleetfrontError as error:
                log.info("job submitter: %s", error)

    def _ended(self, job: int) -> bool:
        try:
            return self._client.wait_job(job).has_ended
        except UserError as error:  # the job was lost, which the audit will find
            log.info("job submitter: %s", error)
            return True

    def _submit(self, pool: str, number: int) -> int:
        kind, where, payload = self.job_request(pool, number)
        job = self._client.submit_job(kind, where, payload)
        self.submitted += 1
        return job.job

    def job_request(self, pool: str, number: int) -> tuple[str, str, dict[str, Any]]:
        """Kind, pool and payload of the ``number``-th job."""
        if pool == "builder":
            step = {"strategy": "svd", "layers": "fc", "rank": number}
            return "compress", "builder", {
                "task": "chaos", "recipe": [step], "seed": 0, "target": TARGET}
        first = number % (FILES - 1)
        candidates = [self._files[1 + (first + i) % (FILES - 1)] for i in range(1 + number % 2)]
        return "measure", f"device:{pool}", {
            "reference": self._files[0], "candidates": candidates, "runtime": "fake",
            "options": {"threads": 1, "batch": 1}, "plan": PLAN, "quiet_level_s": None,
            "input_seed": 0, "attempt": number}

    def stop(self) -> None:
        self._end.set()
        self.join()


def _placed(artifacts: Path, seed: int) -> dict[str, Any]:
    content = fake_model(2e-5 * (1 + seed), 20 + seed, seed)
    place_artifact(artifacts, content)
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
