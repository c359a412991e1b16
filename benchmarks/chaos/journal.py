"""Journal of the proxy: one JSON line per request and its response."""

import gzip
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import parse_qs, urlsplit

from agents.protocol import content_sha256


@dataclass(frozen=True)
class Exchange:
    """One forwarded request and the coordinator's response.

    ``status`` and ``answer`` are None without a complete response. ``passed`` says whether the
    client received it. ``sha256`` is the digest of a result's JSON. Times are seconds of the
    proxy's monotonic clock.
    """

    number: int
    who: str
    method: str
    path: str
    query: dict[str, str]
    sent_s: float
    received_s: float | None = None
    request: Any = None
    sha256: str | None = None
    status: int | None = None
    answer: Any = None
    passed: bool = False
    fault: str | None = None

    @property
    def acknowledged(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def is_about(self, method: str, *parts: str) -> bool:
        """Whether method and path match; ``*`` matches any one segment of the path."""
        found = self.path.strip("/").split("/")
        return (self.method == method and len(found) == len(parts)
                and all(want in ("*", is_) for want, is_ in zip(parts, found, strict=True)))

    def part(self, index: int) -> str:
        """Segment ``index`` of the path, from 0."""
        return self.path.strip("/").split("/")[index]


class Journal:
    """Appends to ``folder/journal.jsonl``; stores result bodies in ``folder/bodies/<sha256>``."""

    def __init__(self, folder: Path) -> None:
        self._bodies = folder / "bodies"
        self._bodies.mkdir(parents=True, exist_ok=True)
        self._lines: TextIO = (folder / "journal.jsonl").open("a")
        self.written = 0

    def write(self, exchange: Exchange) -> None:
        self._lines.write(json.dumps(asdict(exchange), separators=(",", ":")) + "\n")
        self._lines.flush()
        self.written += 1

    def keep_body(self, content: bytes) -> str:
        """Stores ``content`` and returns its sha256."""
        sha256 = content_sha256(content)
        path = self._bodies / sha256
        if not path.exists():
            path.write_bytes(content)
        return sha256

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._lines.close()


def read_journal(folder: Path) -> list[Exchange]:
    """All exchanges, ordered by the time of their response."""
    with (folder / "journal.jsonl").open() as lines:
        return [Exchange(**json.loads(line)) for line in lines]


def body_of(folder: Path, sha256: str) -> bytes | None:
    """JSON of a result as sent; None when the journal has no result with this digest."""
    path = folder / "bodies" / sha256
    return path.read_bytes() if path.exists() else None


def unpacked(body: bytes, encoding: str) -> bytes:
    """The decoded body; unchanged when decoding fails."""
    try:
        return gzip.decompress(body) if encoding == "gzip" else body
    except (OSError, EOFError, zlib.error):
        return body


def document(body: bytes) -> Any:
    """The parsed JSON of a body; None when it is not JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def split_target(target: str) -> tuple[str, dict[str, str]]:
    """Path and query of a request's target."""
    parts = urlsplit(target)
    return parts.path, {name: values[-1] for name, values in parse_qs(parts.query).items()}


def measurement_ids(exchanges: Iterable[Exchange]) -> dict[int, tuple[int, str]]:
    """Measurement id -> (job, sha256 of the file), from all responses of the coordinator."""
    found: dict[int, tuple[int, str]] = {}
    for one in exchanges:
        if not isinstance(one.answer, dict):
            continue
        ended = one.answer.get("jobs")
        for job in (one.answer, *(ended if isinstance(ended, list) else ())):
            result = job.get("result") or {}
            for entry in result.get("measurements", ()):
                found[entry["measurement"]] = (job["job"], entry["sha256"])
    return found
