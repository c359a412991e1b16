"""The agent's own file: kept equal to the one that the coordinator serves.

    answer with X-Agent-Sha256 -> other than ours? -> download -> digest -> beside our file, synced
        -> does it start? (a child, --version) -> rename over our file -> exec, same arguments

Whatever goes wrong before the rename leaves the working file where it is.
"""

import logging
import os
import stat
import sys
from typing import List, Optional

from agents.coordinator.http import Link, LinkError, Refused
from agents.platform.files import discard, replace, stage
from agents.protocol import content_sha256

LOG = logging.getLogger("fleetfront.agent")
LOCK_VARIABLE = "FLEETFRONT_AGENT_LOCK"
TRY_OUT_S = 120.0
HEX = set("0123456789abcdef")


class UpdateFailed(Exception):
    """The old file stays; the text says why and what to do."""


class Updated(Exception):
    """The file is the coordinator's now: this process should start it (``start_anew``)."""


class OwnFile:
    """The zip archive that this program was started from, as it was then. ``archive`` None: it
    runs from a folder, and nothing is ever replaced."""

    def __init__(self, archive: Optional[str], python: str = sys.executable) -> None:
        self._archive = None if archive is None else os.path.realpath(archive)
        self._python = python
        self._given_up: Optional[str] = None
        self.sha256 = None if self._archive is None else digest_of(self._archive)

    def __str__(self) -> str:
        if self.sha256 is None:
            return "started from a folder"
        return "agent.pyz sha256 {}".format(self.sha256)

    def differs(self, offered: Optional[str]) -> bool:
        """Whether ``offered`` is another digest, and one that was not tried in vain."""
        return (self._archive is not None and offered is not None and len(offered) == 64
                and set(offered) <= HEX and offered not in (self.sha256, self._given_up))

    def update(self, offered: str, link: Link) -> None:
        """Always raises: Updated; UpdateFailed, and the digest is not tried again; LinkError."""
        self._given_up = offered
        archive = str(self._archive)
        partial = archive + ".new"
        try:
            if digest_of(archive) == offered:  # an agent that shares the file was quicker
                raise Updated()
            mode = stat.S_IMODE(os.stat(archive).st_mode)
            if not os.access(archive, os.W_OK):
                raise PermissionError("it is read-only")
            stage(partial, self._fetched(offered, link), mode)
            self._try_out(partial)
            replace(partial, archive)
        except OSError as error:
            raise UpdateFailed(
                "{} cannot be replaced ({}): let {} write it and its folder, or put the "
                "coordinator's /agent.pyz there by hand.".format(
                    archive, error, user_name())) from error
        finally:
            discard(partial)
        LOG.info("updated from sha256 %s to %s", str(self.sha256)[:12], offered[:12])
        raise Updated()

    def _fetched(self, offered: str, link: Link) -> bytes:
        try:
            content = link.request("GET", "/agent.pyz").body
        except LinkError:
            self._given_up = None  # worth another try
            raise
        except Refused as refusal:
            raise UpdateFailed("The coordinator does not give its agent.pyz: {}".format(
                refusal)) from refusal
        found = content_sha256(content)
        if found != offered:
            raise UpdateFailed("The coordinator offers the agent.pyz {} and gives {}: start it "
                               "again.".format(offered, found))
        return content

    def _try_out(self, partial: str) -> None:
        """Raises UpdateFailed when the file, which is digest for digest what the coordinator has,
        does not start with this interpreter."""
        import subprocess

        try:
            done = subprocess.run([self._python, partial, "--version"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=TRY_OUT_S)
            code, said = "exit code {}".format(done.returncode), done.stdout
            good = done.returncode == 0
        except subprocess.TimeoutExpired:
            code, said, good = "no answer in {:g} s".format(TRY_OUT_S), b"", False
        if not good:
            lines = said.decode("utf-8", "replace").strip().splitlines() or [""]
            raise UpdateFailed(
                "The coordinator's agent.pyz does not start with {} ({}: {}): start the agent with "
                "another Python, or mend the coordinator's installation.".format(
                    self._python, code, lines[-1][:200]))


def digest_of(path: str) -> str:
    with open(path, "rb") as stream:
        return content_sha256(stream.read())


def start_anew(archive: str, words: List[str], lock_descriptor: int) -> None:
    """Becomes the program in ``archive``, which goes on holding the spool's lock. Does not return.

    Raises OSError.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[LOCK_VARIABLE] = str(lock_descriptor)
    os.execv(sys.executable, [sys.executable, archive, *words])


def kept_lock() -> Optional[int]:
    """The descriptor that ``start_anew`` left, once."""
    text = os.environ.pop(LOCK_VARIABLE, "")
    return int(text) if text.isdigit() else None


def user_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a user without a name, in a container
        return "user {}".format(os.getuid())
