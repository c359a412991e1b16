"""Quiet: when builders stop for a measurement, and how quiet a device is known to be."""

from dataclasses import dataclass, replace

from searcher.ledger.rows import QuietLevelRow

BUSY_FACTOR = 1.2
"""A job whose own level exceeds the known one by more than this ran on a busy machine."""

BELIEVE_AFTER = 3
"""Busy jobs in a row after which the known level is taken for out of date."""


@dataclass(frozen=True)
class WindowRules:
    """When a device that shares the builders' host gets a quiet window.

    At once while nothing is built; otherwise after ``window_every_s`` of building since the last
    window, when ``most_waiting`` candidates wait, or when one waits for ``longest_wait_s``.
    An open window stays for ``grace_s`` while its device fetches the next job, and takes no
    further job after ``longest_s``.
    """

    window_every_s: float = 2.0
    most_waiting: int = 4
    longest_wait_s: float = 10.0
    grace_s: float = 1.0
    longest_s: float = 60.0
    retry_s: float = 0.02

    def due(self, building: bool, built_s: float, waiting: int, waited_s: float) -> bool:
        return (not building or built_s >= self.window_every_s or waiting >= self.most_waiting
                or waited_s >= self.longest_wait_s)


class BuildMeter:
    """Seconds in which something was built since the last window."""

    def __init__(self) -> None:
        self._before_s = 0.0
        self._since_s: float | None = None

    def begin(self, now_s: float) -> None:
        if self._since_s is None:
            self._since_s = now_s

    def end(self, now_s: float) -> None:
        self._before_s = self.built_s(now_s)
        self._since_s = None

    def reset(self) -> None:
        self._before_s, self._since_s = 0.0, None

    def built_s(self, now_s: float) -> float:
        return self._before_s + (now_s - self._since_s if self._since_s is not None else 0.0)


def learn(row: QuietLevelRow, level_s: float, valid: bool, now_s: float) -> QuietLevelRow:
    """The known quiet level after a job whose reference ran at ``level_s``.

    The lowest level of valid jobs counts. When ``BELIEVE_AFTER`` jobs in a row were busy and all
    ran more than ``BUSY_FACTOR`` above it, the machine has changed: the lowest of theirs counts.
    """
    if valid:
        return replace(
            row, level_s=min(row.level_s, level_s), busy_streak=0, busy_level_s=None,
            updated_s=now_s,
        )
    if level_s <= row.level_s * BUSY_FACTOR:
        return replace(row, busy_streak=0, busy_level_s=None, updated_s=now_s)
    streak, lowest_s = row.busy_streak + 1, min(level_s, row.busy_level_s or level_s)
    if streak >= BELIEVE_AFTER:
        return replace(
            row, level_s=lowest_s, busy_streak=0, busy_level_s=None, updated_s=now_s
        )
    return replace(row, busy_streak=streak, busy_level_s=lowest_s, updated_s=now_s)
