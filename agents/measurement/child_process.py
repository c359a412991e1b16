"""Child processes seen from the agent: start, listen, blame, end."""

import json
import os
import select
import signal
import subprocess
import sys
from typing import IO, Any, Callable, Dict, NamedTuple, Optional

from agents.child.progress import NOBODY, OPENING, RESTING, Position, shared_file
from agents.platform.own_program import interpreter_arguments, location

STDERR_TAIL_BYTES = 2000
"""What is kept of a child's chatter, which may be endless."""
LINE_BYTES = 1 << 20


class Where(NamedTuple):
    """Which session the child is at (``NOBODY`` while it starts), whether it opens it for the
    first time, a number that changes with every step, and whether it lets the device rest."""

    session: int
    opening: bool
    step: int
    resting: bool = False


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


class ProcessChild(Child):
    """A child in a process of its own, started by ``python``; without a ``request`` it imports its
    runtime and waits until ``begin``."""

    def __init__(self, runtime: str, request: Optional[Dict[str, Any]] = None,
                 python: str = sys.executable) -> None:
        self._buffer = self._tail = b""
        self._silent = self._mute = False
        self._last = Where(NOBODY, True, 0)
        archive = location()
        self._shared = shared = shared_file()
        try:
            self._position: Optional[Position] = Position(shared)
            self._process = subprocess.Popen(
                [python, *interpreter_arguments(archive), "--child", runtime,
                 "--parent-pid", str(os.getpid())],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                cwd=archive if os.path.isdir(archive) else None, pass_fds=(shared,))
            os.set_blocking(self._stream("stderr").fileno(), False)
        finally:
            os.close(shared)
        if request is not None:
            self.begin(request)

    def begin(self, request: Dict[str, Any]) -> None:
        """Send the one request that this child serves."""
        self._send(dict(request, position_descriptor=self._shared))

    def is_over(self) -> bool:
        """Whether the process has ended, without waiting for it."""
        return self._process.poll() is not None

    def next_event(self, timeout_s: float) -> Optional[Dict[str, Any]]:
        while b"\n" not in self._buffer and not self._silent:
            stream = self._stream("stdout")
            chatter = [] if self._mute else [self._stream("stderr")]
            ready = select.select([stream, *chatter], [], [], timeout_s)[0]
            if chatter and chatter[0] in ready:
                self._hear_chatter()
            if stream not in ready:
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
            self._last = Where(session, doing == OPENING, step, doing == RESTING)
        return self._last

    def ended(self) -> Optional[str]:
        if not self._silent:
            return None
        code = self._process.wait()
        return "signal {}".format(-code) if code < 0 else "exit code {}".format(code)

    def last_words(self) -> str:
        if self._position is not None:
            self._hear_chatter()
        lines = self._tail.decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                _close_quietly(stream)
        if self._position is not None:
            self.where()
            self._position.close()
            self._position = None

    def _stream(self, name: str) -> IO[bytes]:
        stream: IO[bytes] = getattr(self._process, name)
        return stream

    def _hear_chatter(self) -> None:
        """Takes what is there on stderr, without waiting, and keeps its end."""
        try:
            piece = os.read(self._stream("stderr").fileno(), LINE_BYTES)
        except BlockingIOError:
            return
        self._mute = not piece
        self._tail = (self._tail + piece)[-STDERR_TAIL_BYTES:]

    def _send(self, request: Dict[str, Any]) -> None:
        try:
            stream = self._stream("stdin")
            stream.write(json.dumps(request).encode("ascii") + b"\n")
            stream.flush()
        except BrokenPipeError:
            pass  # it died at once; the listener will see that


def _close_quietly(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        pass
