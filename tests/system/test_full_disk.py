"""A disk that fills while a campaign runs: a message, nothing lost, and it goes on with space."""

import ctypes
import errno
from pathlib import Path

import psutil
import pytest

from tests.system.real import Running, campaign_file, ended_trials, fleetfront, rows

DISK_BYTES = 48_000_000
CANDIDATES = 4
DONE = "SELECT id, kind, attempt, result FROM jobs WHERE state = 'done' ORDER BY id"
LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own; where none can be mounted, an ordinary folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={DISK_BYTES}".encode()
    mounted = LIBC.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, options) == 0
    yield folder, mounted
    if mounted:
        LIBC.umount2(bytes(folder), 2)


def fill(folder: Path) -> Path:
    """Take all the space that is left, to the last byte."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    stream.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return ballast


def forbid_growth(family: list[psutil.Process]) -> None:
    """Every write to a file fails from now on, as it does on a full disk."""
    for member in family:
        member.rlimit(psutil.RLIMIT_FSIZE, (0, psutil.RLIM_INFINITY))


def test_a_full_disk_ends_the_campaign_and_loses_nothing(tmp_path, small_disk):
    disk, mounted = small_disk
    directory = disk / "data"
    campaign = campaign_file(tmp_path, "task", CANDIDATES,
                             "channel_pruning magnitude_pruning clustering int8 svd")
    with Running("run", campaign, "--dir", directory) as run:
        run.until(lambda: len(ended_trials(directory)) >= 1)
        ballast = fill(disk) if mounted else forbid_growth(run.family())
        said, _ = run.process.communicate(timeout=120)
    before, done = ended_trials(directory), rows(directory, DONE)
    assert run.process.returncode == 1, said
    assert "Traceback" not in said and "defect of fleetfront" not in said, said
    if ballast is not None:
        assert "is full" in said and "Free some space" in said and str(directory) in said
        ballast.unlink()
    again = fleetfront("run", campaign, "--dir", directory)
    assert again.returncode == 0, again.stdout + again.stderr
    after = {row["id"]: row for row in ended_trials(directory)}
    assert [after[row["id"]] for row in before] == before
    assert len(after) == CANDIDATES
    jobs = {row["id"]: row for row in rows(directory, DONE)}
    assert [jobs[row["id"]] for row in done] == done
