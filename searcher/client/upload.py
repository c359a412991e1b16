"""Uploads a file to a coordinator in pieces, and resumes an interrupted upload."""

import time
from collections.abc import Callable
from pathlib import Path

from searcher.artifacts.store import sha256_of_file
from searcher.client.http import CoordinatorClient
from searcher.errors import ProtocolError, UserError

PIECE_BYTES = 8 * 2**20
MOST_RESTARTS = 2
LONGEST_WAIT_S = 120.0

Progress = Callable[[int, int], None]


def upload(
    client: CoordinatorClient, file: Path, progress: Progress = lambda sent, of: None,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Upload ``file`` and return its sha256. A file that the coordinator already has is not sent.

    ``progress(sent_bytes, size_bytes)`` is called after each piece. Raises UserError if the file
    does not exist or changes during the upload, ProtocolError if another sender of the same file
    makes no progress within ``LONGEST_WAIT_S``.
    """
    size_bytes = checked_size(file)
    sha256 = sha256_of_file(file)
    restarts, waited_s = 0, 0.0
    offset, complete = client.upload_offset(sha256)
    while not complete:
        start = min(offset, size_bytes - 1)
        try:
            offset, complete = client.put_piece(sha256, start, _piece(file, start), size_bytes)
            waited_s = 0.0
        except ProtocolError as error:
            if error.status != 409 or waited_s >= LONGEST_WAIT_S:
                raise
            sleep(1.0)
            waited_s += 1.0
            offset, complete = client.upload_offset(sha256)
        except UserError:
            # The earlier pieces on the coordinator were not the beginning of this file.
            restarts += 1
            offset, complete = client.upload_offset(sha256)
            if restarts > MOST_RESTARTS or offset or complete:
                raise
        progress(size_bytes if complete else offset, size_bytes)
    return sha256


def checked_size(file: Path) -> int:
    """Size of a file in bytes. Raises UserError if there is no file or it is empty."""
    if not file.is_file():
        raise UserError(f"There is no file {file}.")
    size_bytes = file.stat().st_size
    if size_bytes == 0:
        raise UserError(f"The file {file} is empty.")
    return size_bytes


def _piece(file: Path, start: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(start)
        piece = stream.read(PIECE_BYTES)
    if not piece:
        raise UserError(f"The file {file} became shorter during the upload.")
    return piece
