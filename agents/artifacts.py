"""Model files by sha256: downloaded with resume, checked, kept within a bound."""

import errno
import hashlib
import os
from typing import Collection, Iterator, Tuple

from agents.link import Link, LinkError, Refused
from agents.protocol import ArtifactRef

LIMIT_BYTES = 2 << 30
READ_BYTES = 1 << 20
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

    def path(self, ref: ArtifactRef, link: Link) -> str:
        """The local file, downloaded when needed, its digest checked each time.

        Raises ArtifactError, and LinkError when it is worth calling again: what has arrived is
        kept and the next call goes on from there.
        """
        if len(ref.sha256) != 64 or not set(ref.sha256) <= HEX:
            raise ArtifactError("artifact", "{!r} is not a sha256".format(ref.sha256))
        path = os.path.join(self._folder, ref.sha256)
        if os.path.exists(path):
            if file_sha256(path) == ref.sha256:
                os.utime(path, None)
                return path
            os.unlink(path)
        try:
            self._download(ref, path, link)
        except OSError as error:
            reason = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "artifact"
            raise ArtifactError(reason, "The artifact {} ({} bytes) cannot be written to {}: {}"
                                .format(ref.sha256, ref.size_bytes, self._folder, error)) from error
        return path

    def trim(self, keep: Collection[str]) -> None:
        """Removes the files unused for longest until the bound holds; never those in ``keep``."""
        entries = []
        for name in os.listdir(self._folder):
            status = os.stat(os.path.join(self._folder, name))
            entries.append((status.st_mtime, name, status.st_size))
        total = sum(size for _, _, size in entries)
        for _, name, size in sorted(entries):
            if total <= self._limit_bytes:
                return
            if name.split(".")[0] not in keep:
                os.unlink(os.path.join(self._folder, name))
                total -= size

    def _download(self, ref: ArtifactRef, path: str, link: Link) -> None:
        partial = path + ".part"
        resumed = os.path.exists(partial)
        self._fill(ref, partial, link)
        if resumed and file_sha256(partial) != ref.sha256:
            os.unlink(partial)  # an older attempt left something wrong: once more from the start
            self._fill(ref, partial, link)
        found = file_sha256(partial)
        if found != ref.sha256:
            os.unlink(partial)
            raise ArtifactError("artifact", "The coordinator sent {} where {} was asked for: run "
                                "`fleetfront ledger check` there.".format(found, ref.sha256))
        os.replace(partial, path)

    def _fill(self, ref: ArtifactRef, partial: str, link: Link) -> None:
        offset = os.path.getsize(partial) if os.path.exists(partial) else 0
        if offset >= ref.size_bytes > 0:
            return
        start, pieces = _begin(ref, offset, link)
        with open(partial, "r+b" if os.path.exists(partial) else "wb") as stream:
            stream.seek(start)
            stream.truncate()
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
            written = stream.tell()
        if written < ref.size_bytes:
            raise LinkError("the artifact {} broke off after {} of {} bytes".format(
                ref.sha256, written, ref.size_bytes))


def file_sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for piece in iter(lambda: stream.read(READ_BYTES), b""):
            digest.update(piece)
    return digest.hexdigest()


def _begin(ref: ArtifactRef, offset: int, link: Link) -> Tuple[int, Iterator[bytes]]:
    try:
        return link.download("/v1/artifacts/" + ref.sha256, offset)
    except Refused as refusal:
        if refusal.status == 416 and offset:
            return link.download("/v1/artifacts/" + ref.sha256, 0)
        raise ArtifactError("artifact", "The coordinator does not give the artifact {}: {}".format(
            ref.sha256, refusal)) from refusal
