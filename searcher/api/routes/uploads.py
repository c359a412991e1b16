"""Uploads of files by operators: sent whole or in parts, verified by sha256, placed by rename.

    PUT, a part --> .<sha256>.upload --> ... --> digest right? --> ledger row --> <sha256>
                    (HEAD returns the offset)          no: deleted; send it again from the start

A part may be sent twice and after any pause. Disk work runs in threads, a megabyte at a time.
"""

import asyncio
import errno
import logging
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from searcher.api.http.limits import LARGEST_UPLOAD_BYTES
from searcher.api.openapi import refusals
from searcher.artifacts.store import settle, sha256_of_file, sweep
from searcher.dispatch.coordinator import Coordinator
from searcher.errors import ProtocolError
from searcher.jobs import fields
from searcher.ledger.tables import builds

log = logging.getLogger(__name__)

PIECE_BYTES = 2**20
SPARE_BYTES = 64 * 10**6
"""Free space reserved for the ledger and the builders."""

_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16})")


class Uploads:
    """The unfinished uploads of one coordinator. Use it from the event loop."""

    def __init__(
        self, coordinator: Coordinator, largest_bytes: int = LARGEST_UPLOAD_BYTES,
        spare_bytes: int = SPARE_BYTES,
    ) -> None:
        self.largest_bytes = largest_bytes
        self._coordinator, self._spare_bytes = coordinator, spare_bytes
        self._folder = coordinator.artifacts
        self._receiving: set[str] = set()

    def sweep(self) -> None:
        """Delete uploads that were not continued for a day."""
        for name in sweep(self._folder, time.time()):
            log.info("deleted %s: not continued for over a day", name)

    def path(self, sha256: str) -> Path:
        """The path of the file. Raises ProtocolError (400) unless ``sha256`` is 64 hexadecimal
        digits: nothing else becomes a part of a path."""
        return self._folder / fields.sha256_of(sha256, "sha256")

    def offset(self, sha256: str) -> int | None:
        """Bytes of an unfinished file that have arrived; None if there are none."""
        try:
            return self._partial(sha256).stat().st_size
        except FileNotFoundError:
            return None

    async def receive(
        self, sha256: str, start: int | None, size_bytes: int | None, pieces: AsyncIterator[bytes]
    ) -> int | None:
        """Store the body. Returns the offset reached, or None when the file is complete.

        Without ``start`` the body is the whole file. With it, the body is a part of a file of
        ``size_bytes`` that begins there and may overlap what is stored. Raises ProtocolError (400
        with the digest that was found, 413, 507), HTTPException (409).
        """
        if self.path(sha256).is_file():
            return None
        with self._alone(sha256), self._disk(sha256):
            offset = self._begin(sha256, start, size_bytes)
            skip = 0 if start is None else offset - start
            async for piece in _gathered(pieces, skip):
                if size_bytes is not None and offset + len(piece) > size_bytes:
                    raise ProtocolError(f"The body goes beyond {size_bytes} bytes.")
                await asyncio.to_thread(self._append, sha256, offset, piece)
                offset += len(piece)
            if size_bytes is not None and offset < size_bytes:
                return offset
            await self._finish(sha256)
        return None

    @contextmanager
    def _alone(self, sha256: str) -> Iterator[None]:
        """Let only one request at a time write a file; the next one continues it."""
        if sha256 in self._receiving:
            raise self._conflict(sha256, "Another request is sending this file.")
        self._receiving.add(sha256)
        try:
            yield
        finally:
            self._receiving.discard(sha256)

    def _conflict(self, sha256: str, what: str) -> HTTPException:
        offset = self.offset(sha256) or 0
        return HTTPException(
            409, f"{what} {offset} bytes have arrived. Ask for the offset with HEAD and continue "
            "there.",
            {"Upload-Offset": str(offset), "Retry-After": "1"},
        )

    def _begin(self, sha256: str, start: int | None, size_bytes: int | None) -> int:
        """The offset of the next write, after a check that the rest fits on the disk."""
        offset = self.offset(sha256) or 0
        if start is None:
            self._partial(sha256).unlink(missing_ok=True)
            offset = 0
        elif start > offset:
            raise self._conflict(sha256, f"Bytes before {start} are missing.")
        if size_bytes is not None and size_bytes > self.largest_bytes:
            raise ProtocolError(
                f"A file of {size_bytes} bytes is too large: at most {self.largest_bytes} are "
                "accepted (serve --largest-upload).", 413)
        self._check_room((size_bytes or 0) - offset)
        return offset

    def _check_room(self, wanted_bytes: int) -> None:
        free = shutil.disk_usage(self._folder).free - self._spare_bytes
        if wanted_bytes > free:
            raise ProtocolError(
                f"No room is left for the upload: it needs {wanted_bytes} bytes more, and "
                f"{max(free, 0)} are free in {self._folder} besides a reserve of "
                f"{self._spare_bytes}. Free some space there, then send the rest.", 507)

    @contextmanager
    def _disk(self, sha256: str) -> Iterator[None]:
        """Delete the partial file if it is too large, or if the disk is full in spite of the
        reserve, because the ledger needs the space."""
        try:
            yield
        except HTTPException as error:
            if error.status_code == 413:
                self._partial(sha256).unlink(missing_ok=True)
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise ProtocolError(f"The upload cannot be written: {error}.", 503) from error
            self._partial(sha256).unlink(missing_ok=True)
            raise ProtocolError(
                f"No room is left in {self._folder} ({error}). Free some space, then send the "
                "file again.", 507) from error

    def _append(self, sha256: str, offset: int, piece: bytes) -> None:
        self._check_room(len(piece))
        descriptor = os.open(self._partial(sha256), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            rest = memoryview(piece)
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                rest, offset = rest[written:], offset + written
        finally:
            os.close(descriptor)

    async def _finish(self, sha256: str) -> None:
        partial = self._partial(sha256)
        partial.touch()
        found = await asyncio.to_thread(sha256_of_file, partial)
        if found != sha256:
            partial.unlink(missing_ok=True)
            raise ProtocolError(
                f"The content has sha256 {found}, not {sha256} as announced; it was deleted. "
                "Send the file again from the start.")
        # The row comes first: a file without a row would count as one of a builder.
        with self._coordinator.store.atomic() as db:
            builds.put_upload(db, sha256, partial.stat().st_size, self._coordinator.clock())
        await asyncio.to_thread(settle, partial, self.path(sha256))
        log.info("upload %s: complete", sha256)

    def _partial(self, sha256: str) -> Path:
        return self._folder / f".{fields.sha256_of(sha256, 'sha256')}.upload"


async def _gathered(pieces: AsyncIterator[bytes], skip: int) -> AsyncIterator[bytes]:
    """The bytes after the first ``skip``, in pieces of about a megabyte. If the sender stops, what
    arrived is yielded before the error is raised."""
    kept = bytearray()
    try:
        async for piece in pieces:
            kept += piece[skip:]
            skip = max(skip - len(piece), 0)
            if len(kept) >= PIECE_BYTES:
                yield bytes(kept)
                kept.clear()
    except (ClientDisconnect, HTTPException):
        if kept:
            yield bytes(kept)
        raise
    if kept:
        yield bytes(kept)


router = APIRouter(prefix="/v1", tags=["artifacts"])


async def _uploads_of(request: Request) -> Uploads:
    uploads: Uploads = request.app.state.uploads
    return uploads


TheUploads = Annotated[Uploads, Depends(_uploads_of)]


@router.head("/artifacts/{sha256}", response_class=Response, responses={
    204: {"description": "Unfinished"}, 404: {"description": "Unknown file"}})
async def progress(uploads: TheUploads, sha256: str) -> Response:
    """200 for a complete file, 204 for an unfinished one, each with ``Upload-Offset``; else 404."""
    path, offset = uploads.path(sha256), uploads.offset(sha256)
    if path.is_file():
        size = str(path.stat().st_size)
        return Response(headers={"Upload-Offset": size, "Content-Length": size})
    if offset is None:
        return Response(status_code=404)
    return Response(status_code=204, headers={"Upload-Offset": str(offset)})


@router.put("/artifacts/{sha256}", responses={
    **refusals(409), 202: {"description": "Incomplete"}}, openapi_extra={"requestBody": {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}})
async def upload(
    request: Request, uploads: TheUploads, sha256: str,
    content_range: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """The whole file, or the part that ``Content-Range: bytes A-B/N`` names.

    200 when the file is complete, 202 with ``Upload-Offset`` when the rest is missing.
    """
    uploads.path(sha256)
    length = request.headers.get("content-length")
    announced = None if length is None else int(length)
    start, size_bytes = None, announced
    if content_range is not None:
        start, stop, size_bytes = _part(content_range)
        if announced not in (None, stop - start):
            raise ProtocolError(
                f"Content-Range {content_range!r} names {stop - start} bytes, the body has "
                f"{announced}.")
    offset = await uploads.receive(sha256, start, size_bytes, request.stream())
    answer: dict[str, Any] = {"sha256": sha256, "complete": offset is None}
    if offset is None:
        return JSONResponse(answer)
    return JSONResponse(answer, 202, {"Upload-Offset": str(offset)})


def _part(content_range: str) -> tuple[int, int, int]:
    """``start, stop, size_bytes``. Raises ProtocolError (400)."""
    found = _RANGE.fullmatch(content_range)
    if found is None:
        raise ProtocolError(
            f"Content-Range {content_range[:80]!r} must read like \"bytes 0-1023/4096\".")
    first, last, size_bytes = map(int, found.groups())
    if not first <= last < size_bytes:
        raise ProtocolError(f"Content-Range {content_range!r} lies outside of its file.")
    return first, last + 1, size_bytes
