"""In the parent: a child that works on one file alone, from its start to its end."""

from typing import Any, Callable, Dict

from agents.child.progress import NOBODY
from agents.measurement.child_process import Child, StartChild
from agents.measurement.runner import LISTEN_S, START_LIMIT_S, Cancelled, MeasurementFailed
from agents.platform.files import NO_SPACE

Event = Dict[str, Any]


def attend(
    runtime: str, request: Event, start_child: StartChild, clock: Callable[[], float],
    cancelled: Callable[[], bool], hear: Callable[[Event], None], silence_s: float,
) -> None:
    """``hear`` gets every event of the child but how it ended. ``silence_s`` without a step is
    taken for a hang.

    Raises Cancelled, and MeasurementFailed with the reason ``runtime`` when it does not start,
    else ``unloadable``, ``crashed`` or ``timeout``.
    """
    try:
        child = start_child(runtime, request)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise MeasurementFailed("runtime", "The runtime {!r} cannot be started: {}".format(
            runtime, error)) from error
    try:
        _listen(child, runtime, clock, cancelled, hear, silence_s)
    finally:
        child.close()


def _listen(child: Child, runtime: str, clock: Callable[[], float], cancelled: Callable[[], bool],
            hear: Callable[[Event], None], silence_s: float) -> None:
    where, since_s = child.where(), clock()
    while True:
        if cancelled():
            raise Cancelled()
        event = child.next_event(LISTEN_S)
        if event is not None:
            since_s = clock()
            if event["event"] == "end":
                return
            if event["event"] in ("refused", "broken"):
                raise _failure(str(event["reason"]), event["event"] == "broken", runtime,
                               child.where().session == NOBODY)
            hear(event)
            continue
        how = child.ended()
        if how is not None:
            starting = child.where().session == NOBODY
            raise _failure("crashed: {} {}".format(how, child.last_words()).strip(), True, runtime,
                           starting)
        now_at = child.where()
        if now_at != where:
            where, since_s = now_at, clock()
        elif clock() - since_s > (START_LIMIT_S if where.session == NOBODY else silence_s):
            raise _failure("timeout: no step for {:g} s".format(clock() - since_s), True, runtime,
                           where.session == NOBODY)


def _failure(reason: str, broken: bool, runtime: str, starting: bool) -> MeasurementFailed:
    if broken and starting:
        return MeasurementFailed("runtime", "The runtime {!r} does not start: {}".format(
            runtime, reason))
    word, _, text = reason.partition(": ")
    return MeasurementFailed(word, text)
