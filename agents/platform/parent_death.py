"""Children end with their parent, however it dies: a death signal, and the end of their stdin."""

import os
import signal
import sys
import threading
from typing import Callable

PR_SET_PDEATHSIG = 1


def signal_on_parent_death(number: int) -> bool:
    """Asks Linux to send ``number`` when the thread that started us ends. False elsewhere."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def parent_gone(parent_pid: int, direct: bool) -> bool:
    """Whether the process has ended; ``direct`` says that it is (or was) our own parent."""
    if direct:
        return os.getppid() != parent_pid
    try:
        os.kill(parent_pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def end_with(parent_pid: int, on_gone: Callable[[], None], poll_s: float = 1.0) -> None:
    """Calls ``on_gone`` from a thread once ``parent_pid`` has ended.

    The death signal is SIGHUP with a handler that looks again, because Linux sends it already
    when only the *thread* that started us has ended. Call from the main thread.
    """
    direct = os.getppid() == parent_pid

    def look(*_: object) -> None:
        if parent_gone(parent_pid, direct):
            on_gone()

    def watch() -> None:
        pause = threading.Event()
        while not parent_gone(parent_pid, direct):
            pause.wait(poll_s)
        on_gone()

    if direct and hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, look)
        signal_on_parent_death(signal.SIGHUP)
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def die_with_stdin() -> None:
    """Ends this process at once when nobody holds the other end of its stdin any more."""
    def watch() -> None:
        # Not sys.stdin: its lock, held by a daemon thread, aborts the interpreter's shutdown.
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="stdin-watch", daemon=True).start()
