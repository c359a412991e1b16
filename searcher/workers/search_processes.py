"""Search processes, one per running campaign: started, restarted and ended by the coordinator.

    wanted ──> search ──exit 0──────────> the campaign has ended
      ^          ├─────exit 1──────────> failed, with the search's message: the user must act
      └──pause───┴─────anything else     failed after MOST_CRASHES without progress between them

All state of a search is in the ledger, so that its process can be ended at any time.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)

MOST_CRASHES = 3
FIRST_PAUSE_S = 1.0
PAUSE_GROWS = 4.0
USER_ERROR = 1
"""Exit code of a search whose campaign cannot continue until the user corrects an error."""

_END_WITHIN_S = 3.0
_TAIL_BYTES = 4000
_TAIL_LINES = 12


class Campaigns(Protocol):
    """What search processes need of the coordinator. All methods are called in its thread."""

    def progress_of(self, name: str) -> int:
        """A number that increases with every step of the campaign."""
        ...

    def search_ended(self, name: str) -> None:
        """Called when the search process of a campaign ended, for any reason."""
        ...

    def search_failed(self, name: str, reason: str) -> None:
        """Called when the campaign cannot continue."""
        ...


class Searches(Protocol):
    """Search processes of campaigns. Call it from the coordinator's thread."""

    def drive(self, wanted: Sequence[str]) -> None:
        """Run one search for each of the first ``wanted``, up to the limit, and end all others.
        Call it regularly, and when ``wanted`` changes."""
        ...

    def ask_to_stop(self) -> None:
        """Request the end of all searches and start no others. Safe in a signal handler."""
        ...

    def stop(self) -> None:
        """End all searches. Returns when none is left."""
        ...

    def running(self) -> list[str]:
        """Names of the campaigns that have a search process."""
        ...


class NoSearches:
    """For a coordinator that starts no searches."""

    def drive(self, wanted: Sequence[str]) -> None:
        pass

    def ask_to_stop(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def running(self) -> list[str]:
        return []


@dataclass(eq=False)
class _Child:
    campaign: str
    process: subprocess.Popen[bytes]
    asked_to_end_s: float | None = None
    """Time of the SIGTERM, None before it."""


@dataclass(frozen=True)
class _Crashes:
    count: int
    progress: int
    retry_s: float


class SearchProcesses:
    """At most ``most`` processes ``command --campaign NAME``, each in its own process group.

    Their output goes to ``logs/search-NAME.log``. ``post``, from any thread, runs a function soon
    in the owner's thread. That thread starts the children, so it must live as long as the process.
    """

    def __init__(
        self, command: Sequence[str], most: int, logs: Path, campaigns: Campaigns, *,
        post: Callable[[Callable[[], None]], None], now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command, self._most, self._logs = tuple(command), most, logs
        self._campaigns, self._post, self._now_s = campaigns, post, now_s
        self._children: dict[str, _Child] = {}
        self._crashes: dict[str, _Crashes] = {}
        self._watchers: list[threading.Thread] = []
        self._stopping = False

    def drive(self, wanted: Sequence[str]) -> None:
        if self._stopping:
            return
        chosen = [name for name in wanted if self._may_run(name)][:self._most]
        for name in [name for name in self._crashes if name not in wanted]:
            del self._crashes[name]
        for child in self._children.values():
            if child.campaign not in chosen:
                self._end(child)
        for name in chosen:
            if name not in self._children and len(self._children) < self._most:
                self._spawn(name)

    def _may_run(self, name: str) -> bool:
        crashes = self._crashes.get(name)
        return crashes is None or self._now_s() >= crashes.retry_s

    def _spawn(self, name: str) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        with open(self._log_of(name), "ab") as sink:
            try:
                process = subprocess.Popen(
                    [*self._command, "--campaign", name], stdin=subprocess.DEVNULL, stdout=sink,
                    stderr=sink, start_new_session=True,
                )
            except OSError as error:
                self._campaigns.search_failed(
                    name, f"Its search cannot be started ({self._command[0]}): {error}.")
                return
        child = _Child(name, process)
        self._children[name] = child
        watcher = threading.Thread(target=self._watch, args=(child,), daemon=True)
        self._watchers.append(watcher)
        watcher.start()

    def _watch(self, child: _Child) -> None:
        child.process.wait()
        self._post(lambda: self._gone(child))

    def _end(self, child: _Child) -> None:
        """Send SIGTERM first, and SIGKILL if the process has not ended within _END_WITHIN_S."""
        if child.asked_to_end_s is None:
            child.asked_to_end_s = self._now_s()
            _signal(child, signal.SIGTERM)
        elif self._now_s() - child.asked_to_end_s >= _END_WITHIN_S:
            _signal(child, signal.SIGKILL)

    def _gone(self, child: _Child) -> None:
        name, code = child.campaign, child.process.returncode
        if self._children.get(name) is not child:
            return
        del self._children[name]
        self._watchers = [watcher for watcher in self._watchers if watcher.is_alive()]
        _signal(child, signal.SIGKILL)
        if self._stopping:
            return
        if child.asked_to_end_s is None and code != 0:
            self._failed(name, code)
        self._campaigns.search_ended(name)

    def _failed(self, name: str, code: int) -> None:
        known, progress = self._crashes.get(name), self._campaigns.progress_of(name)
        count = 1 if known is None or known.progress != progress else known.count + 1
        pause_s = FIRST_PAUSE_S * PAUSE_GROWS ** (min(count, MOST_CRASHES) - 1)
        # Kept also for a campaign that fails: a full disk may prevent the record of the failure.
        self._crashes[name] = _Crashes(count, progress, self._now_s() + pause_s)
        if code == USER_ERROR:
            self._campaigns.search_failed(name, self._tail(name))
        elif count >= MOST_CRASHES:
            self._campaigns.search_failed(
                name, f"Its search ended {count} times in a row without progress, the last time "
                f"with {_cause(code)}. {self._log_of(name)} ends with: {self._tail(name)}")
        else:
            log.warning("the search of campaign %s ended with %s; it starts again in %g s",
                        name, _cause(code), pause_s, extra={"campaign": name})

    def _log_of(self, name: str) -> Path:
        return self._logs / f"search-{name}.log"

    def _tail(self, name: str) -> str:
        try:
            content = self._log_of(name).read_bytes()[-_TAIL_BYTES:]
        except OSError:
            return "(unreadable)"
        lines = content.decode("utf-8", "replace").strip().splitlines()[-_TAIL_LINES:]
        return "\n".join(lines) or "(nothing)"

    def ask_to_stop(self) -> None:
        self._stopping = True
        for child in list(self._children.values()):
            _signal(child, signal.SIGTERM)

    def stop(self) -> None:
        self.ask_to_stop()
        deadline_s = time.monotonic() + _END_WITHIN_S
        for child in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(deadline_s - time.monotonic(), 0.01))
            _signal(child, signal.SIGKILL)
            child.process.wait()
        for watcher in self._watchers:
            watcher.join()
        self._children.clear()
        self._watchers.clear()

    def running(self) -> list[str]:
        return sorted(self._children)


def _signal(child: _Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
