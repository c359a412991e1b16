"""Keeps the disk within --keep while requests are served, in small steps."""

import asyncio
import logging
import sqlite3

from searcher.api.http.long_poll import Notifications
from searcher.artifacts.eviction import YOUNG_S, EvictionPolicy
from searcher.errors import LedgerError

log = logging.getLogger(__name__)

TOPIC = "disk"
PAUSE_S = 0.002
"""Pause between steps, so that requests get at least half of the core."""
AFTER_ERROR_S = 30.0


async def bound_disk(policy: EvictionPolicy, notifications: Notifications) -> None:
    """Runs until cancelled or the server stops; a notification on ``TOPIC`` starts a pass."""
    if policy.bound_bytes is None:
        return
    steps = policy.begin()
    while not notifications.closing:
        try:
            for slow in steps:
                if slow is not None:
                    await asyncio.to_thread(slow)
                await asyncio.sleep(PAUSE_S)
        except (LedgerError, sqlite3.Error, OSError) as error:
            log.error("the disk is not kept within --keep: %s", error)
            await notifications.wait(TOPIC, AFTER_ERROR_S)
        while not notifications.closing and not policy.due:
            await notifications.wait(TOPIC, YOUNG_S)
        steps = policy.steps()
