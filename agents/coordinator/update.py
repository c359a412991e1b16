"""Updates of the agent's own file to the one that the coordinator serves.

    X-Agent-Sha256 differs from own digest -> download -> check digest -> write beside own file
        -> run it with --version in a child -> rename over own file -> exec with same arguments

A failure before the rename leaves the working file unchanged.
"""

import logging
import os
import stat
import sys
from typing import List, Optional

from agents.coordinator.http import CoordinatorUnavailable, HttpClient, RequestRefused
from agents.platform.files import discard, replace, stage
from agents.protocol import content_sha256

LOG = logging.getLogger("fleetfront.agent")
LOCK_VARIABLE = "FLEETFRONT_AGENT_LOCK"
TRY_OUT_S = 120.0
HEX = set("0123456789abcdef")


class UpdateFailed(Exception):
    """The update failed and the old file stays; the text says why and what to do."""


class Updated(Exception):
    """The file has been replaced: the caller must ``restart`` from it."""


class AgentFile:
    """The zip archive that this program was started from, with its digest at that time.
    ``archive`` is None for a program in a folder, which is never replaced."""

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
        """Whether ``offered`` is another digest than the file's, and has not failed before."""
        return (self._archive is not None and offered is not None and len(offered) == 64
                and set(offered) <= HEX and offered not in (self.sha256, self._given_up))

    def update(self, offered: str, client: HttpClient) -> None:
        """Always raises: Updated after success; UpdateFailed, after which this digest is not tried
        again; CoordinatorUnavailable, after which it is."""
        self._given_up = offered
        archive = str(self._archive)
        partial = archive + ".new"
        try:
            if digest_of(archive) == offered:  # by another agent that shares the file
                raise Updated()
            mode = stat.S_IMODE(os.stat(archive).st_mode)
            if not os.access(archive, os.W_OK):
                raise PermissionError("it is read-only")
            stage(partial, self._downloaded(offered, client), mode)
            self._check_starts(partial)
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

    def _downloaded(self, offered: str, client: HttpClient) -> bytes:
        try:
            content = client.request("GET", "/agent.pyz").body
        except CoordinatorUnavailable:
            self._given_up = None  # try it again later
            raise
        except RequestRefused as refusal:
            raise UpdateFailed("The coordinator refuses its agent.pyz: {}".format(
                refusal)) from refusal
        found = content_sha256(content)
        if found != offered:
            raise UpdateFailed("The coordinator offers the agent.pyz {} and sends {}: restart "
                               "it.".format(offered, found))
        return content

    def _check_starts(self, partial: str) -> None:
        """Raises UpdateFailed if the downloaded file does not start with this interpreter."""
        import subprocess

        try:
            done = subprocess.run([self._python, partial, "--version"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=TRY_OUT_S)
            code, output = "exit code {}".format(done.returncode), done.stdout
            good = done.returncode == 0
        except subprocess.TimeoutExpired:
            code, output, good = "no answer in {:g} s".format(TRY_OUT_S), b"", False
        if not good:
            lines = output.decode("utf-8", "replace").strip().splitlines() or [""]
            raise UpdateFailed(
                "The coordinator's agent.pyz does not start with {} ({}: {}): start the agent with "
                "another Python, or repair the coordinator's installation.".format(
                    self._python, code, lines[-1][:200]))


def digest_of(path: str) -> str:
    with open(path, "rb") as stream:
        return content_sha256(stream.read())


def restart(archive: str, words: List[str], lock_descriptor: int) -> None:
    """Replaces this process by the program in ``archive``, which inherits the lock of the spool.
    Does not return. Raises OSError."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[LOCK_VARIABLE] = str(lock_descriptor)
    os.execv(sys.executable, [sys.executable, archive, *words])


def inherited_lock() -> Optional[int]:
    """The descriptor of the lock that ``restart`` passed on; None after the first call."""
    text = os.environ.pop(LOCK_VARIABLE, "")
    return int(text) if text.isdigit() else None


def user_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a user without a name, in a container
        return "user {}".format(os.getuid())
