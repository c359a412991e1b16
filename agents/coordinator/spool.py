"""The agent's spool folder: its secret, and results until the coordinator has accepted them."""

import logging
import os
import zlib
from typing import List, NamedTuple, Optional, Set, Tuple

from agents.coordinator.http import HttpClient, RequestRefused
from agents.platform.files import stage, write_durably
from agents.protocol import (
    Lease,
    ProtocolError,
    ResultEnvelope,
    canonical_json,
    content_sha256,
    decode,
    encode,
)

LOG = logging.getLogger("fleetfront.agent")
GZIP_FROM_BYTES = 1024
GZIP_WINDOW = 31
"""A ``wbits`` of zlib that adds the header and trailer of gzip."""
DAMAGED = ".damaged"
PROBE_BYTES = 1 << 16

Result = Tuple[int, int, int]
"""(job, attempt, fence)."""


class Secret(NamedTuple):
    """The secret of an enrolment, stored in ``agent.json`` with mode 0600. ``fingerprint`` is that
    of the coordinator's pinned certificate, or empty."""

    url: str
    name: str
    agent: str
    secret: str
    fingerprint: str = ""


def read_secret(folder: str) -> Optional[Secret]:
    """The stored secret; None before the first enrolment, and with a warning for a damaged file."""
    path = os.path.join(folder, "agent.json")
    try:
        with open(path, "rb") as stream:
            return decode(Secret, stream.read())
    except FileNotFoundError:
        return None
    except (OSError, ProtocolError) as error:
        LOG.warning("the secret in %s cannot be read (%s): enrol the device again",
                    path, error)
        return None


def write_secret(folder: str, secret: Secret) -> None:
    write_durably(os.path.join(folder, "agent.json"), canonical_json(dict(secret._asdict())))


def check_writable(folder: str) -> None:
    """Raises OSError if the folder cannot store a secret. Checked before a one-time token is
    used."""
    probe = os.path.join(folder, "probe.new")
    stage(probe, b"\0" * PROBE_BYTES, 0o600)
    os.unlink(probe)


class ResultSpool:
    """The unsent results of one enrolment, by job number. Each enrolment has a folder of its own,
    because job numbers are unique within a coordinator only."""

    def __init__(self, folder: str, secret: str) -> None:
        self._folder = os.path.join(folder, "results", content_sha256(secret.encode())[:16])
        self._done: Set[Result] = set()
        os.makedirs(self._folder, mode=0o700, exist_ok=True)

    def put(self, lease: Lease, envelope: ResultEnvelope) -> None:
        """Raises OSError, e.g. when the disk is full."""
        result = (lease.job, lease.attempt, lease.fence)
        write_durably(self._path(result), encode(envelope))
        self._done.discard(result)

    def waiting(self) -> List[Result]:
        """The results that have not been sent."""
        found = []
        for name in sorted(os.listdir(self._folder)):
            words = name[:-len(".json")].split("-") if name.endswith(".json") else []
            if len(words) == 3 and all(word.isdigit() for word in words):
                found.append((int(words[0]), int(words[1]), int(words[2])))
        return [one for one in found if one not in self._done]

    def send_all(self, client: HttpClient) -> List[str]:
        """Sends all results; returns the refusals.

        Removes accepted and refused results: a refused one would never be accepted. Renames a
        damaged file and logs a warning. Raises CoordinatorUnavailable, and RequestRefused for 401,
        403 and 426.
        """
        refusals = []
        for result in self.waiting():
            body = self._read(result)
            if body is None:
                continue
            try:
                send_result(client, *result, body=body)
            except RequestRefused as refusal:
                if refusal.status in (401, 403, 426):
                    raise
                refusals.append("result of job {}: {}".format(result[0], refusal))
            self._drop(result)
        return refusals

    def _path(self, result: Result) -> str:
        return os.path.join(self._folder, "{:012d}-{}-{}.json".format(*result))

    def _read(self, result: Result) -> Optional[bytes]:
        """The content of a result's file; None if the file is damaged, such as by a power cut."""
        path = self._path(result)
        try:
            with open(path, "rb") as stream:
                body = stream.read()
            decode(ResultEnvelope, body)
            return body
        except (OSError, ProtocolError) as error:
            self._done.add(result)
            LOG.warning("the result of job %d is damaged (%s) and was renamed to %s; the job "
                        "will be leased again", result[0], error, path + DAMAGED)
        try:
            os.replace(path, path + DAMAGED)
        except OSError as error:
            LOG.warning("the damaged result cannot be renamed: %s", error)
        return None

    def _drop(self, result: Result) -> None:
        try:
            os.unlink(self._path(result))
        except OSError as error:  # a read-only file system; it is sent again after the next start
            self._done.add(result)
            LOG.warning("the result of job %d was sent and cannot be removed: %s", result[0], error)


def send_result(client: HttpClient, job: int, attempt: int, fence: int, body: bytes) -> None:
    """Sends one result, whose digest is that of the uncompressed JSON. Raises
    CoordinatorUnavailable and RequestRefused."""
    headers = {"X-Content-Sha256": content_sha256(body)}
    if len(body) >= GZIP_FROM_BYTES:
        packer = zlib.compressobj(6, zlib.DEFLATED, GZIP_WINDOW)
        body = packer.compress(body) + packer.flush()
        headers["Content-Encoding"] = "gzip"
    client.request("PUT", "/v1/results/{}/{}?fence={}".format(job, attempt, fence), body, headers)
