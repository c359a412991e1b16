"""Child processes seen from the agent: start, listen, blame, end."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from typing import IO, Any, Callable, Dict, List, NamedTuple, Optional

from agents.runtimes.child import NOBODY, OPENING, Position

STDERR_TAIL_BYTES = 2000
CHILD_NAMES = {"onnxruntime": "ort", "fake": "fake"}
LINE_BYTES = 1 << 20


class Where(NamedTuple):
    """Which session the child is at (``NOBODY`` while it starts), whether it opens it for the
    first time, and a number that changes with every step."""

    session: int
    opening: bool
    step: int


class Child:
    """One measuring child. The real one is ``ProcessChild``; tests script their own."""

    def next_event(self, timeout_s: float) -> Optional[Dict[str, Any]]:
        """The next event, or None when none came in time or none will come any more."""
        raise NotImplementedError

    def where(self) -> Where:
        raise NotImplementedError

    def ended(self) -> Optional[str]:
        """None while it may still speak; then how it ended: ``signal 11``, ``exit code 3``."""
        raise NotImplementedError

    def last_words(self) -> str:
        """The last line on its stderr, or an empty string."""
        raise NotImplementedError

    def close(self) -> None:
        """Kills it if it lives, and frees what it held. May be called twice."""
        raise NotImplementedError


StartChild = Callable[[str, Dict[str, Any]], Child]
"""(runtime, request without ``position_descriptor``) -> a started child."""


def program(archive: str) -> List[str]:
    """How to start this package anew: the zip archive itself, or ``-m agents`` from a folder."""
    return [archive] if os.path.isfile(archive) else ["-m", "agents"]


def archive_of(module_file: str) -> str:
    """The folder, or the zip archive, that holds the package of ``module_file``."""
    return os.path.dirname(os.path.dirname(os.path.abspath(module_file)))


class ProcessChild(Child):
    """A child in a process of its own, started by ``python``."""

    def __init__(self, runtime: str, request: Dict[str, Any], python: str = sys.executable) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()
        shared = tempfile.TemporaryFile()
        self._position: Optional[Position] = Position(shared.fileno())
        self._buffer = b""
        self._silent = False
        self._last = Where(NOBODY, True, 0)
        archive = archive_of(__file__)
        self._process = subprocess.Popen(
            [python, *program(archive), "--child", CHILD_NAMES.get(runtime, runtime),
             "--parent-pid", str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            cwd=archive if os.path.isdir(archive) else None, pass_fds=(shared.fileno(),))
        self._send(dict(request, position_descriptor=shared.fileno()))
        shared.close()

    def next_event(self, timeout_s: float) -> Optional[Dict[str, Any]]:
        while b"\n" not in self._buffer and not self._silent:
            stream = self._process.stdout
            if stream is None or not select.select([stream], [], [], timeout_s)[0]:
                return None
            piece = os.read(stream.fileno(), LINE_BYTES)
            self._silent = not piece
            self._buffer += piece
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return None
        self._buffer = rest
        event = json.loads(line.decode("ascii"))
        return event if isinstance(event, dict) else None

    def where(self) -> Where:
        if self._position is not None:
            session, doing, step = self._position.read()
            self._last = Where(session, doing == OPENING, step)
        return self._last

    def ended(self) -> Optional[str]:
        if not self._silent:
            return None
        code = self._process.wait()
        return "signal {}".format(-code) if code < 0 else "exit code {}".format(code)

    def last_words(self) -> str:
        if self._stderr.closed:
            return ""
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(self._stderr.tell() - STDERR_TAIL_BYTES, 0))
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _close_quietly(stream)
        self._stderr.close()
        if self._position is not None:
            self.where()
            self._position.close()
            self._position = None

    def _send(self, request: Dict[str, Any]) -> None:
        stream = self._process.stdin
        if stream is None:
            return
        try:
            stream.write(json.dumps(request).encode("ascii") + b"\n")
            stream.flush()
        except BrokenPipeError:
            pass  # it died at once; the listener will see that


def _close_quietly(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        pass
