"""Model files by sha256: downloaded with resume, checked, kept within a bound."""

import os
from typing import Callable, Collection, Generator, Tuple

from agents.coordinator.http import TIMEOUT_S, Link, LinkError, Refused
from agents.platform.bounded_folder import evict, file_sha256, mark_used
from agents.platform.files import NO_SPACE
from agents.protocol import ArtifactRef

LIMIT_BYTES = 2 << 30
HEX = set("0123456789abcdef")


class ArtifactError(Exception):
    """The file cannot be had; ``reason`` is one short stable word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ArtifactCache:
    """``folder`` holds whole files under their sha256 and unfinished ones as ``.part``."""

    def __init__(self, folder: str, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = os.path.abspath(folder)
        self._limit_bytes = limit_bytes
        os.makedirs(self._folder, mode=0o700, exist_ok=True)

    def path(self, ref: ArtifactRef, link: Link, arrived: Callable[[int], None] = lambda n: None,
             timeout_s: float = TIMEOUT_S) -> str:
        """The local file, downloaded when needed, its digest checked each time.

        ``arrived`` hears how many of its bytes are here, now and then; what it raises ends the
        download. ``timeout_s`` bounds a silence. Raises ArtifactError, and LinkError when it is
        worth calling again: what has arrived is kept and the next call goes on from there.
        """
        if len(ref.sha256) != 64 or not set(ref.sha256) <= HEX:
            raise ArtifactError("artifact", "{!r} is not a sha256".format(ref.sha256))
        path = os.path.join(self._folder, ref.sha256)
        try:
            if not self._have(ref, path):
                self._download(ref, path, _Source(link, arrived, timeout_s))
        except OSError as error:
            reason = "disk" if error.errno in NO_SPACE else "artifact"
            raise ArtifactError(reason, "The artifact {} ({} bytes) cannot be written to {}: {}"
                                .format(ref.sha256, ref.size_bytes, self._folder, error)) from error
        return path

    def trim(self, keep: Collection[str]) -> None:
        """Removes the files unused for longest until the bound holds; never those in ``keep``."""
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
            os.unlink(partial)  # an older attempt left something wrong: once more from the start
            self._fill(ref, partial, source)
        found = file_sha256(partial)
        if found != ref.sha256:
            os.unlink(partial)
            raise ArtifactError("artifact", "The coordinator sent {} where {} was asked for: run "
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
            pieces.close()  # or the rest of the answer would be taken for the next one
        if written < ref.size_bytes:
            raise LinkError("the artifact {} broke off after {} of {} bytes".format(
                ref.sha256, written, ref.size_bytes))


class _Source:
    """Where the bytes of one file come from."""

    def __init__(self, link: Link, arrived: Callable[[int], None], timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self.arrived = arrived

    def begin(self, ref: ArtifactRef, offset: int) -> Tuple[int, Generator[bytes, None, None]]:
        try:
            return self._asked(ref, offset)
        except Refused as refusal:
            if refusal.status == 416 and offset:
                return self._asked(ref, 0)
            raise ArtifactError("artifact", "The coordinator does not give the artifact {}: {}"
                                .format(ref.sha256, refusal)) from refusal

    def _asked(self, ref: ArtifactRef, offset: int) -> Tuple[int, Generator[bytes, None, None]]:
        return self._link.download("/v1/artifacts/" + ref.sha256, offset, self._timeout_s)
