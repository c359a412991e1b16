"""A cache of model files by SHA-256: resumed downloads, checked digests, a bounded size."""

import os
from typing import Callable, Collection, Generator, Tuple

from agents.coordinator.http import TIMEOUT_S, CoordinatorUnavailable, HttpClient, RequestRefused
from agents.platform.bounded_folder import evict, file_sha256, mark_used
from agents.platform.files import NO_SPACE
from agents.protocol import ArtifactRef

LIMIT_BYTES = 2 << 30
HEX = set("0123456789abcdef")


class ArtifactError(Exception):
    """A file cannot be downloaded or stored; ``reason`` is one short stable word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ArtifactCache:
    """``folder`` holds complete files under their SHA-256, and partial ones with ``.part``."""

    def __init__(self, folder: str, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = os.path.abspath(folder)
        self._limit_bytes = limit_bytes
        os.makedirs(self._folder, mode=0o700, exist_ok=True)

    def path(self, ref: ArtifactRef, client: HttpClient,
             arrived: Callable[[int], None] = lambda n: None,
             timeout_s: float = TIMEOUT_S) -> str:
        """The path of the local file, downloaded if necessary; its digest is checked each time.

        ``arrived`` is called with the number of bytes stored so far; its exceptions end the
        download. ``timeout_s`` limits a pause between two chunks. Raises ArtifactError, and
        CoordinatorUnavailable if a retry makes sense: it resumes the download.
        """
        if len(ref.sha256) != 64 or not set(ref.sha256) <= HEX:
            raise ArtifactError("artifact", "{!r} is not a sha256".format(ref.sha256))
        path = os.path.join(self._folder, ref.sha256)
        try:
            if not self._have(ref, path):
                self._download(ref, path, _Source(client, arrived, timeout_s))
        except OSError as error:
            reason = "disk" if error.errno in NO_SPACE else "artifact"
            raise ArtifactError(reason, "The artifact {} ({} bytes) cannot be written to {}: {}"
                                .format(ref.sha256, ref.size_bytes, self._folder, error)) from error
        return path

    def trim(self, keep: Collection[str]) -> None:
        """Evicts the least recently used files until the limit holds, except those in ``keep``."""
        evict(self._folder, self._limit_bytes, lambda name: name.split(".")[0] in keep)

    def _have(self, ref: ArtifactRef, path: str) -> bool:
        if not os.path.exists(path):
            return False
        if file_sha256(path) != ref.sha256:
            os.unlink(path)
            return False
        mark_used(path)
        return True

    def _download(self, ref: ArtifactRef, path: str, source: "_Source") -> None:
        partial = path + ".part"
        resumed = os.path.exists(partial)
        self._fill(ref, partial, source)
        if resumed and file_sha256(partial) != ref.sha256:
            os.unlink(partial)  # an earlier attempt left other bytes: download it from the start
            self._fill(ref, partial, source)
        found = file_sha256(partial)
        if found != ref.sha256:
            os.unlink(partial)
            raise ArtifactError("artifact", "The coordinator sent {} instead of {}: run "
                                "`fleetfront ledger check` there.".format(found, ref.sha256))
        os.replace(partial, path)

    def _fill(self, ref: ArtifactRef, partial: str, source: "_Source") -> None:
        offset = os.path.getsize(partial) if os.path.exists(partial) else 0
        if offset >= ref.size_bytes > 0:
            return
        start, pieces = source.begin(ref, offset)
        try:
            with open(partial, "r+b" if os.path.exists(partial) else "wb") as stream:
                stream.seek(start)
                stream.truncate()
                for piece in pieces:
                    stream.write(piece)
                    source.arrived(stream.tell())
                stream.flush()
                os.fsync(stream.fileno())
                written = stream.tell()
        finally:
            pieces.close()  # or the next request would read the rest of this response
        if written < ref.size_bytes:
            raise CoordinatorUnavailable("the artifact {} ended after {} of {} bytes".format(
                ref.sha256, written, ref.size_bytes))


class _Source:
    """Downloads of one file, and the callback that counts its bytes."""

    def __init__(self, client: HttpClient, arrived: Callable[[int], None],
                 timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self.arrived = arrived

    def begin(self, ref: ArtifactRef, offset: int) -> Tuple[int, Generator[bytes, None, None]]:
        try:
            return self._asked(ref, offset)
        except RequestRefused as refusal:
            if refusal.status == 416 and offset:
                return self._asked(ref, 0)
            raise ArtifactError("artifact", "The coordinator refuses the artifact {}: {}"
                                .format(ref.sha256, refusal)) from refusal

    def _asked(self, ref: ArtifactRef, offset: int) -> Tuple[int, Generator[bytes, None, None]]:
        return self._client.download("/v1/artifacts/" + ref.sha256, offset, self._timeout_s)
