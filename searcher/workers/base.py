"""Where builds run: a crew of builders that can be stopped for a quiet window."""

import os
from typing import Protocol


class Workers(Protocol):
    """A crew. Called from the coordinator's one thread only."""

    @property
    def broken(self) -> str | None:
        """Why no builder will ever run again (with what to do), None while there is hope."""
        ...

    def start(self) -> None:
        """Begin to work; builders lease their jobs from the coordinator."""
        ...

    def pause(self) -> bool:
        """Stop all builders. True once every one has verifiably stopped computing; False means
        that they will, and that the caller should ask again. Idempotent."""
        ...

    def resume(self) -> None:
        """Let all builders continue where they stopped. Idempotent."""
        ...

    def stop(self) -> None:
        """End all builders, paused or not; returns when none is left."""
        ...

    def alive_count(self) -> int:
        """Builders that exist, paused ones included."""
        ...


class NoWorkers:
    """The crew of a coordinator that builds nothing itself."""

    broken: str | None = None

    def start(self) -> None:
        pass

    def pause(self) -> bool:
        return True

    def resume(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def alive_count(self) -> int:
        return 0


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
