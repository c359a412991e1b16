"""Measuring children as the agent sees them: it starts them, reads their events and ends them."""

import json
import os
import select
import signal
import subprocess
import sys
from typing import IO, Callable, NamedTuple, Optional

from agents.child.progress import NO_SESSION, OPENING, RESTING, SharedProgress, create_shared_file
from agents.child.request import ChildRequest
from agents.platform.own_program import interpreter_arguments, location
from agents.protocol import JsonObject, as_json

STDERR_TAIL_BYTES = 2000
"""Bytes kept of a child's stderr, which may be endless."""
LINE_BYTES = 1 << 20


class ChildProgress(NamedTuple):
    """The session that the child executes (``NO_SESSION`` while it starts), whether it opens it for
    the first time, a counter of its steps, and whether it lets the device rest."""

    session: int
    opening: bool
    step: int
    resting: bool = False


class Child:
    """One measuring child. ``ProcessChild`` is a process; tests simulate others."""

    def next_event(self, timeout_s: float) -> Optional[JsonObject]:
        """The next event as JSON (``agents.child.events``); None after ``timeout_s`` without one,
        or after the last one."""
        raise NotImplementedError

    def progress(self) -> ChildProgress:
        """What the child does now; after its end, what it did last."""
        raise NotImplementedError

    def ended(self) -> Optional[str]:
        """None while events may follow; then how it ended: ``signal 11`` or ``exit code 3``."""
        raise NotImplementedError

    def last_stderr_line(self) -> str:
        """The last line of its stderr, or an empty string."""
        raise NotImplementedError

    def close(self) -> None:
        """Kills the child if it still runs, and releases its resources. Idempotent."""
        raise NotImplementedError


StartChild = Callable[[str, ChildRequest], Child]
"""(runtime, request) -> a started child. Raises OSError."""


class ProcessChild(Child):
    """A child process of the interpreter ``python``. Without a ``request`` it imports its runtime
    and waits for ``begin``."""

    def __init__(self, runtime: str, request: Optional[ChildRequest] = None,
                 python: str = sys.executable) -> None:
        self._buffer = self._tail = b""
        self._stdout_closed = self._stderr_closed = False
        self._last = ChildProgress(NO_SESSION, True, 0)
        archive = location()
        self._shared = shared = create_shared_file()
        try:
            self._position: Optional[SharedProgress] = SharedProgress(shared)
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

    def begin(self, request: ChildRequest) -> None:
        """Sends the one request that this child serves."""
        self._send(request._replace(position_descriptor=self._shared))

    def has_ended(self) -> bool:
        """Whether the process has ended. Does not wait."""
        return self._process.poll() is not None

    def next_event(self, timeout_s: float) -> Optional[JsonObject]:
        while b"\n" not in self._buffer and not self._stdout_closed:
            stream = self._stream("stdout")
            stderr = [] if self._stderr_closed else [self._stream("stderr")]
            ready = select.select([stream, *stderr], [], [], timeout_s)[0]
            if stderr and stderr[0] in ready:
                self._read_stderr()
            if stream not in ready:
                return None
            piece = os.read(stream.fileno(), LINE_BYTES)
            self._stdout_closed = not piece
            self._buffer += piece
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return None
        self._buffer = rest
        event = json.loads(line.decode("ascii"))
        return event if isinstance(event, dict) else None

    def progress(self) -> ChildProgress:
        if self._position is not None:
            session, doing, step = self._position.read()
            self._last = ChildProgress(session, doing == OPENING, step, doing == RESTING)
        return self._last

    def ended(self) -> Optional[str]:
        if not self._stdout_closed:
            return None
        code = self._process.wait()
        return "signal {}".format(-code) if code < 0 else "exit code {}".format(code)

    def last_stderr_line(self) -> str:
        if self._position is not None:
            self._read_stderr()
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
            self.progress()
            self._position.close()
            self._position = None

    def _stream(self, name: str) -> IO[bytes]:
        stream: IO[bytes] = getattr(self._process, name)
        return stream

    def _read_stderr(self) -> None:
        """Reads available output of stderr without blocking, and keeps its end."""
        try:
            piece = os.read(self._stream("stderr").fileno(), LINE_BYTES)
        except BlockingIOError:
            return
        self._stderr_closed = not piece
        self._tail = (self._tail + piece)[-STDERR_TAIL_BYTES:]

    def _send(self, request: ChildRequest) -> None:
        try:
            stream = self._stream("stdin")
            stream.write(json.dumps(as_json(request)).encode("ascii") + b"\n")
            stream.flush()
        except BrokenPipeError:
            pass  # the child has ended; the listener will report it


def _close_quietly(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        pass
