"""Supervises one measuring child that works on one file, from its start to its end."""

from typing import Callable

from agents.child.events import Broken, End, Event, FileRefused, parse_event
from agents.child.progress import NO_SESSION
from agents.child.request import ChildRequest
from agents.measurement.child_process import Child, StartChild
from agents.platform.files import NO_SPACE

LISTEN_S = 0.2
"""Longest wait for an event before cancellation and progress are checked."""
START_LIMIT_S = 120.0
"""Longest start of a child; importing a runtime from a slow SD card can take a minute."""
LOAD_BYTES_PER_S = 10e6
"""Assumed speed of loading a file on a slow device, for time limits."""


class JobFailed(Exception):
    """The job has no result; ``reason`` is one short stable word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class JobCancelled(Exception):
    """``cancelled()`` returned true; the child has been killed."""


def supervise(
    runtime: str, request: ChildRequest, start_child: StartChild, clock: Callable[[], float],
    cancelled: Callable[[], bool], on_event: Callable[[Event], None], silence_s: float,
) -> None:
    """Runs one child. ``on_event`` gets all its events but those that end it. A child without
    progress for ``silence_s`` counts as hung.

    Raises JobCancelled. Raises JobFailed with the reason ``runtime`` if the child does not start,
    otherwise with that of the child, ``crashed`` or ``timeout``.
    """
    try:
        child = start_child(runtime, request)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise JobFailed("runtime", "The runtime {!r} cannot be started: {}".format(
            runtime, error)) from error
    try:
        _listen(child, runtime, clock, cancelled, on_event, silence_s)
    finally:
        child.close()


def _listen(child: Child, runtime: str, clock: Callable[[], float], cancelled: Callable[[], bool],
            on_event: Callable[[Event], None], silence_s: float) -> None:
    progress, since_s = child.progress(), clock()
    while True:
        if cancelled():
            raise JobCancelled()
        content = child.next_event(LISTEN_S)
        if content is not None:
            since_s = clock()
            event = parse_event(content)
            if isinstance(event, End):
                return
            if isinstance(event, (FileRefused, Broken)):
                raise _failure(event.reason, isinstance(event, Broken), runtime,
                               child.progress().session == NO_SESSION)
            if event is not None:
                on_event(event)
            continue
        ending = child.ended()
        if ending is not None:
            starting = child.progress().session == NO_SESSION
            raise _failure("crashed: {} {}".format(ending, child.last_stderr_line()).strip(), True,
                           runtime, starting)
        now = child.progress()
        starting = progress.session == NO_SESSION
        if now != progress:
            progress, since_s = now, clock()
        elif clock() - since_s > (START_LIMIT_S if starting else silence_s):
            raise _failure("timeout: no step for {:g} s".format(clock() - since_s), True, runtime,
                           starting)


def _failure(reason: str, broken: bool, runtime: str, starting: bool) -> JobFailed:
    if broken and starting:
        return JobFailed("runtime", "The runtime {!r} does not start: {}".format(runtime, reason))
    word, _, text = reason.partition(": ")
    return JobFailed(word, text)
