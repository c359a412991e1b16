"""What the agent keeps on its disk: its secret, and results until the coordinator has them."""

import gzip
import io
import os
from typing import List, NamedTuple, Optional, Tuple

from agents.files import write_durably
from agents.link import Link, Refused
from agents.protocol import (
    Lease,
    ProtocolError,
    ResultEnvelope,
    canonical_json,
    content_sha256,
    decode,
    encode,
)

GZIP_FROM_BYTES = 1024


class Secret(NamedTuple):
    """What enrolment gave; kept in ``agent.json``, readable by its owner only."""

    url: str
    name: str
    agent: str
    secret: str


def read_secret(folder: str) -> Optional[Secret]:
    """None when never enrolled, or when the file is damaged."""
    try:
        with open(os.path.join(folder, "agent.json"), "rb") as stream:
            return decode(Secret, stream.read())
    except (OSError, ProtocolError):
        return None


def write_secret(folder: str, secret: Secret) -> None:
    write_durably(os.path.join(folder, "agent.json"), canonical_json(dict(secret._asdict())))


class ResultSpool:
    """Results of one enrolment, oldest first. Another enrolment has other job numbers, therefore
    another folder."""

    def __init__(self, folder: str, secret: str) -> None:
        self._folder = os.path.join(folder, "results", content_sha256(secret.encode())[:16])
        os.makedirs(self._folder, mode=0o700, exist_ok=True)

    def put(self, lease: Lease, envelope: ResultEnvelope) -> None:
        """Raises OSError, e.g. when the disk is full."""
        write_durably(os.path.join(self._folder, "{:012d}-{}-{}.json".format(
            lease.job, lease.attempt, lease.fence)), encode(envelope))

    def waiting(self) -> List[Tuple[int, int, int]]:
        """(job, attempt, fence) of each result that is not yet sent."""
        found = []
        for name in sorted(os.listdir(self._folder)):
            words = name[:-len(".json")].split("-") if name.endswith(".json") else []
            if len(words) == 3 and all(word.isdigit() for word in words):
                found.append((int(words[0]), int(words[1]), int(words[2])))
        return found

    def send_all(self, link: Link) -> List[str]:
        """Sends what waits; returns the refusals. An accepted or refused result is dropped: a
        refused one is stale, or will never be accepted. Raises LinkError, and Refused for 401."""
        refusals = []
        for job, attempt, fence in self.waiting():
            path = os.path.join(self._folder, "{:012d}-{}-{}.json".format(job, attempt, fence))
            with open(path, "rb") as stream:
                body = stream.read()
            try:
                send_result(link, job, attempt, fence, body)
            except Refused as refusal:
                if refusal.status in (401, 403):
                    raise
                refusals.append("result of job {}: {}".format(job, refusal))
            os.unlink(path)
        return refusals


def send_result(link: Link, job: int, attempt: int, fence: int, body: bytes) -> None:
    """The digest is that of the JSON, compressed or not. Raises LinkError and Refused."""
    headers = {"X-Content-Sha256": content_sha256(body)}
    if len(body) >= GZIP_FROM_BYTES:
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream:
            stream.write(body)
        body = packed.getvalue()
        headers["Content-Encoding"] = "gzip"
    link.request("PUT", "/v1/results/{}/{}?fence={}".format(job, attempt, fence), body, headers)
