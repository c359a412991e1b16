"""A builder without torch, which returns prepared files at once.

The shipped builder loads torch for seconds; most builders of a chaos run are killed earlier. The
order of writes is the same: write the file, sync it, rename it, then send the result.

    python -m benchmarks.chaos.builder --via URL --url URL --dir DIR --parent-pid PID
"""

import argparse
import hashlib
import os
import sys
import threading
from pathlib import Path

from agents.coordinator.http import Backoff, CoordinatorUnavailable, HttpClient, RequestRefused
from agents.coordinator.spool import send_result
from agents.platform.files import write_durably
from agents.protocol import (
    PROTOCOL_VERSION,
    Heartbeat,
    Lease,
    LeaseRequest,
    ProtocolError,
    ResultEnvelope,
    decode,
    encode,
)
from benchmarks.chaos.models import built, checked, evaluated
from searcher.workers.parent_death import die_with_parent

POLL_S = 20.0
BUILD_S = 0.02
"""Duration of a build, long enough that a SIGKILL can interrupt it."""


def beat(url: str, secret: str, lease: Lease, ended: threading.Event) -> None:
    """Sends heartbeats for the lease. A refusal ends the process: the job has a new lease."""
    link = HttpClient(url, secret)
    while not ended.wait(lease.ttl_s / 4):
        try:
            link.request("POST", "/v1/heartbeat", encode(Heartbeat(lease.job, lease.fence)),
                         timeout_s=lease.ttl_s)
        except CoordinatorUnavailable:
            continue
        except RequestRefused:
            os._exit(3)
    link.close()


def work(lease: Lease, artifacts: Path) -> ResultEnvelope:
    """Runs one job. A file that cannot be written makes it a failed job with the reason ``io``."""
    threading.Event().wait(BUILD_S)
    if lease.kind == "evaluate":
        return ResultEnvelope("done", evaluated(lease.payload))
    if lease.kind == "check_task":
        return ResultEnvelope("done", checked(lease.payload))
    content, result = built(lease.kind, lease.payload)
    path = artifacts / hashlib.sha256(content).hexdigest()
    if not path.exists():
        try:
            write_durably(str(path), content)
        except OSError as error:
            return ResultEnvelope("failed", {"reason": "io", "message": str(error)})
    return ResultEnvelope("done", result)


def deliver(link: HttpClient, lease: Lease, envelope: ResultEnvelope) -> None:
    """Sends the result until it is accepted or refused."""
    backoff = Backoff(0.05, 1.0)
    while True:
        try:
            send_result(link, lease.job, lease.attempt, lease.fence, encode(envelope))
            return
        except CoordinatorUnavailable:
            threading.Event().wait(backoff.next_s())
        except RequestRefused as refusal:
            sys.stderr.write(f"job {lease.job}: {refusal}\n")
            return


def serve(url: str, secret: str, artifacts: Path) -> None:
    """Leases and runs jobs until the process is killed."""
    link, backoff = HttpClient(url, secret), Backoff(0.05, 1.0)
    while True:
        try:
            answer = link.request("POST", "/v1/lease", encode(LeaseRequest(
                PROTOCOL_VERSION, POLL_S)), timeout_s=POLL_S + 10)
            lease = None if answer.status == 204 else decode(Lease, answer.body)
        except (CoordinatorUnavailable, RequestRefused, ProtocolError):
            threading.Event().wait(backoff.next_s())
            continue
        backoff.reset()
        if lease is None:
            continue
        ended = threading.Event()
        threading.Thread(target=beat, args=(url, secret, lease, ended), daemon=True).start()
        deliver(link, lease, work(lease, artifacts))
        ended.set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--via", required=True, help="the proxy's address, for all requests")
    parser.add_argument("--url", required=True, help="the coordinator's own address, unused")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent_pid)
    serve(arguments.via, sys.stdin.readline().strip(), arguments.dir / "artifacts")


if __name__ == "__main__":
    main()
