"""The quiet level of a device: the time of the reference when nothing else runs."""

from dataclasses import replace

from searcher.ledger.rows import QuietLevelRow

BUSY_FACTOR = 1.2
"""A job whose level exceeds the known one by more than this factor ran on a busy machine."""

BELIEVE_AFTER = 3
"""Number of consecutive busy jobs after which the known level is considered out of date."""


def learn(row: QuietLevelRow, level_s: float, valid: bool, now_s: float) -> QuietLevelRow:
    """The known quiet level after a job whose reference ran at ``level_s``.

    It is the lowest level of all valid jobs. After ``BELIEVE_AFTER`` consecutive busy jobs, each
    above it by ``BUSY_FACTOR``, the machine has changed: their lowest level replaces it.
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
