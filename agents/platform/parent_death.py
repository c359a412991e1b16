"""Processes that end with their parent, by a death signal and by the end of their stdin."""

import os
import signal
import sys
import threading
from typing import Callable

PR_SET_PDEATHSIG = 1


def signal_on_parent_death(number: int) -> bool:
    """Makes Linux send signal ``number`` when the thread that started this process ends. Returns
    False on other systems."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def parent_has_ended(parent_pid: int, direct: bool) -> bool:
    """Whether ``parent_pid`` has ended; ``direct``: it is, or was, the parent of this process."""
    if direct:
        return os.getppid() != parent_pid
    try:
        os.kill(parent_pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def call_when_parent_ends(parent_pid: int, on_gone: Callable[[], None],
                          poll_s: float = 1.0) -> None:
    """Calls ``on_gone`` once ``parent_pid`` has ended. Call it from the main thread.

    Uses SIGHUP as death signal, with a handler that checks the parent: Linux sends the signal when
    the *thread* that started this process ends. A polling thread covers indirect parents.
    """
    direct = os.getppid() == parent_pid

    def check(*_: object) -> None:
        if parent_has_ended(parent_pid, direct):
            on_gone()

    def watch() -> None:
        pause = threading.Event()
        while not parent_has_ended(parent_pid, direct):
            pause.wait(poll_s)
        on_gone()

    if direct and hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, check)
        signal_on_parent_death(signal.SIGHUP)
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def exit_with_stdin() -> None:
    """Exits this process at once when its stdin is closed by the last writer."""
    def watch() -> None:
        # Not sys.stdin: its lock, held by a daemon thread, aborts the interpreter's shutdown.
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="stdin-watch", daemon=True).start()
