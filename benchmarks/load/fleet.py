"""Many agents (``agent.pyz`` with the fake runtime) on one coordinator."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from agents import protocol
from benchmarks.checks import Check, holds
from benchmarks.load.prepared import Serving
from searcher.artifacts.store import place_artifact
from searcher.client.http import CoordinatorClient
from searcher.ledger.read_only import open_ledger
from searcher.spec.measurement_plan import PLANS

PLAN = PLANS["quick"]._replace(
    name="load", block_s=0.001, min_blocks=8, max_s=0.2, warmup_s=0.001, fresh_session_every_s=1.0)
JOBS_EACH = 60
STARTUP_S = 180.0
"""Time limit for all agents to start: 100 interpreters on two cores."""


def run_fleet(served: Serving, directory: Path, agents: int, seconds: float) -> list[Check]:
    """Enrols and starts ``agents``, queues more jobs than they can do, and stops after ``seconds``.
    Every result that an agent reports as sent must be in the ledger once."""
    with CoordinatorClient(served.url, served.token) as client:
        files = [_model(directory, 1e-4), _model(directory, 5e-5)]
        names = [f"fleet-{number:03d}" for number in range(agents)]
        processes = [_agent(client, served.url, directory, name) for name in names]
        for attempt in range(JOBS_EACH):
            for name in names:
                client.submit_job("measure", f"device:{name}", _payload(files, attempt))
        began_s = time.monotonic()
        while not all(_has_finished_a_job(directory, name) for name in names):
            if time.monotonic() - began_s > STARTUP_S:
                break
            time.sleep(1.0)
        ready = sum(_has_finished_a_job(directory, name) for name in names)
        print(f"{ready} of {len(names)} agents have finished a job after "
              f"{time.monotonic() - began_s:.0f} s", flush=True)
        for line, number in _last_log_lines(directory, names).most_common():
            print(f"  {number} with last log line: {line}", flush=True)
        time.sleep(seconds)
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    return _audit(directory, names)


def _has_finished_a_job(directory: Path, name: str) -> bool:
    return ": done" in (directory / "agents" / name / "log").read_text()


def _last_log_lines(directory: Path, names: list[str]) -> Counter[str]:
    """Last log lines of the agents without a finished job, with digits replaced by N."""
    logs = [(directory / "agents" / name / "log").read_text().splitlines()
            for name in names if not _has_finished_a_job(directory, name)]
    return Counter(re.sub(r"[0-9]+", "N", log[-1]) if log else "nothing" for log in logs)


def _model(directory: Path, latency_s: float) -> dict[str, object]:
    content = json.dumps({"fake_model": 1, "latency_s": latency_s, "outputs": [0.5]}).encode()
    path = place_artifact(directory / "artifacts", content)
    assert path.name == hashlib.sha256(content).hexdigest()
    return {"sha256": path.name, "size_bytes": len(content)}


def _payload(files: list[dict[str, object]], attempt: int) -> dict[str, object]:
    return {"reference": files[0], "candidates": files[1:], "runtime": "fake",
            "options": {"threads": 1, "graph_level": "all", "batch": 1}, "plan": PLAN._asdict(),
            "quiet_level_s": None, "input_seed": 0, "attempt": attempt}


def _agent(client: CoordinatorClient, url: str, directory: Path,
           name: str) -> subprocess.Popen[bytes]:
    token = client.create_enrolment(name).token
    folder = directory / "agents" / name
    folder.mkdir(parents=True)
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, str(directory / "agent.pyz"), "--coordinator", url, "--token", token,
             "--name", name, "--spool", str(folder), "--runtime", "fake",
             "--parent-pid", str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _audit(directory: Path, names: list[str]) -> list[Check]:
    sent: Counter[int] = Counter()
    for name in names:
        for line in (directory / "agents" / name / "log").read_text().splitlines():
            words = line.split()
            # "agent: job 17: done" is logged when the result is in the spool
            if words[1:2] == ["job"] and words[-1] == "done":
                sent[int(words[2].rstrip(":"))] += 1
    with open_ledger(directory / "ledger.db") as db:
        stored = Counter({row[0]: row[1] for row in db.execute(
            """SELECT m.job, count(*) FROM measurements m JOIN jobs j ON j.id = m.job
               WHERE j.pool LIKE 'device:fleet-%' GROUP BY m.job""")})
        digests = dict(db.execute(
            """SELECT id, result_sha256 FROM jobs
               WHERE pool LIKE 'device:fleet-%' AND state = 'done'""").fetchall())
        failed = db.execute(
            """SELECT count(*) FROM jobs
               WHERE pool LIKE 'device:fleet-%' AND state = 'failed'""").fetchone()[0]
    working = sum(_has_finished_a_job(directory, name) for name in names)
    print(f"{len(names)} agents: {len(digests)} jobs done, {failed} failed; protocol "
          f"{protocol.PROTOCOL_VERSION}. Limit: the two cores, which all agents and their "
          "children share.")
    once = all(count == 1 for count in stored.values())
    return [
        holds("(a) agents with a finished job", working == len(names), str(working),
              str(len(names))),
        holds("(a) results in the ledger exactly once", once and set(stored) == set(digests),
              f"{sum(stored.values())} of {len(digests)} done jobs", "each once"),
        holds("(a) sent results that are in the ledger", set(sent) == set(digests),
              f"{len(set(sent) & set(digests))} of {len(sent)}", "all"),
        holds("(a) failed jobs", failed == 0, str(failed), "0")]
