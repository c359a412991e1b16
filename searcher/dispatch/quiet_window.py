"""Quiet windows: the builders on this host are stopped while a device on this host measures."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlite_utils import Database

from searcher.errors import LedgerError
from searcher.jobs import registry
from searcher.jobs.base import BUILDER, pool_of
from searcher.jobs.registry import request_of
from searcher.ledger.rows import JobRow
from searcher.ledger.store import Store
from searcher.ledger.tables import devices, jobs, spans
from searcher.workers.base import NoWorkers, WorkerPool

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WindowRules:
    """When a quiet window opens for a device on the builders' host, and when it closes.

    It opens immediately while no builder works. Otherwise it opens after ``window_every_s`` of
    building since the last window, when ``most_waiting`` candidates are queued, or when one has
    been queued for ``longest_wait_s``. It stays open for ``grace_s`` after a measurement, so that
    a device can lease the next job, and no job starts in it after ``longest_s``. A device repeats
    its request after ``retry_s`` while the builders stop.
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
    """Time in which at least one build ran since the last window."""

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


class Window:
    """The quiet window of this host: builders stop, devices measure in turn, builders continue.

    ``is_open`` is true from the confirmed stop of all builders until they continue.
    """

    def __init__(self, store: Store, rules: WindowRules, clock: Callable[[], float]) -> None:
        self.workers: WorkerPool = NoWorkers()
        self._store, self._rules, self._clock = store, rules, clock
        self._meter = BuildMeter()
        self._opened_s: float | None = None
        self._measuring_pool: str | None = None
        self._began_s: dict[str, float] = {}
        self._fetch_until_s: float | None = None
        self._stopping_until_s: float | None = None
        self._start_on_close = False
        self._unrecorded: tuple[float, float] | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_s is not None

    @property
    def measuring_pool(self) -> str | None:
        """The pool of the device on this host that measures now."""
        return self._measuring_pool

    @property
    def holds_builders(self) -> bool:
        """Whether builders are stopped or stopping. Then no builder gets a job."""
        return self.is_open or self._stopping_until_s is not None

    def shared_pools(self) -> list[str]:
        """Pools of the devices on this host; the least recently used is first."""
        pools = [pool_of(name) for name in devices.names_on_this_host(self._store.db)]
        return sorted(pools, key=lambda pool: self._began_s.get(pool, 0.0))

    def next_pools(self) -> list[str]:
        """The ``shared_pools`` with a job that their device may lease."""
        queued = jobs.queued_on_this_host(self._store.db)
        return [pool for pool in self.shared_pools() if pool in queued]

    def measuring(self) -> list[JobRow]:
        """Leased jobs of devices on this host, at most one."""
        return jobs.leased_on_this_host(self._store.db)

    def _waiting(self) -> bool:
        return bool(jobs.queued_on_this_host(self._store.db))

    def _building(self) -> bool:
        """Whether a builder has a lease, or can lease a queued job."""
        if jobs.leased(self._store.db, BUILDER, limit=1):
            return True
        return (self.workers.alive_count() > 0
                and jobs.next_queued(self._store.db, BUILDER) is not None)

    def admits(self, pool: str) -> bool:
        """Whether the rules let this device measure now."""
        if self.measuring():
            return False
        now_s = self._clock()
        if self._opened_s is not None:
            return now_s - self._opened_s < self._rules.longest_s
        return self._stopping_until_s is not None or self._due(pool, now_s)

    def _due(self, pool: str, now_s: float) -> bool:
        queued = jobs.queued(self._store.db, pool, self._rules.most_waiting)
        if not queued:
            return False
        return self._rules.due(
            self._building(), self._meter.built_s(now_s),
            sum(request_of(job).weight() for job in queued),
            now_s - min(job.created_s for job in queued),
        )

    def opens_in_s(self, pool: str) -> float | None:
        """Seconds after which the window may open for this device without another event; None if
        only an event can open it."""
        if self._stopping_until_s is not None:
            return self._rules.retry_s
        job = jobs.next_queued(self._store.db, pool)
        if self.is_open or job is None or self.measuring():
            return None
        now_s = self._clock()
        left_s = min(self._rules.window_every_s - self._meter.built_s(now_s),
                     self._rules.longest_wait_s - (now_s - job.created_s))
        return max(left_s, self._rules.retry_s)

    def try_open(self, pool: str) -> float | None:
        """Stop the builders. Returns the time at which they stopped, None while they still run."""
        if self._opened_s is not None:
            return self._opened_s
        if not self.workers.pause():
            self._stopping_until_s = self._clock() + self._rules.grace_s
            return None
        self._stopping_until_s = None
        return self._clock()

    def close_builder_spans(self, db: Database, stopped_s: float) -> None:
        if self._opened_s is None:
            spans.end_of_pool(db, BUILDER, stopped_s)

    def lease_began(self, pool: str, stopped_s: float) -> None:
        self._opened_s = stopped_s if self._opened_s is None else self._opened_s
        self._meter.end(stopped_s)
        self._meter.reset()
        self._measuring_pool, self._fetch_until_s = pool, None
        self._began_s[pool] = self._clock()

    def restore_open(self, now_s: float) -> None:
        """After a restart: open the window for an agent that still measures on this host. The
        builders start when it closes."""
        self._opened_s, self._start_on_close = now_s, True
        self._measuring_pool = self.measuring()[0].pool

    def cancel_opening(self) -> None:
        """Resume the builders, because the lease for which they stopped could not be stored."""
        if self._opened_s is None:
            self.workers.resume()

    def lease_ended(self, pool: str) -> bool:
        """Handle the end of a device's lease. Returns whether the builders continue now."""
        if pool != self._measuring_pool:
            return False
        self._measuring_pool = None
        if self._waiting():
            self._fetch_until_s = self._clock() + self._rules.grace_s
        return self.close_if_idle()

    def close_if_idle(self) -> bool:
        """Close the window if no measurement runs or follows. Returns whether the builders continue
        now."""
        if self._stopping_until_s is not None and not self._waiting():
            self._stopping_until_s = None
            self.workers.resume()
            return True
        if self._opened_s is None or self._measuring_pool is not None:
            return False
        now_s = self._clock()
        fetching = (
            self._fetch_until_s is not None and now_s < self._fetch_until_s
            and now_s - self._opened_s < self._rules.longest_s
        )
        if fetching and self._waiting():
            return False
        self._close()
        return True

    def _close(self) -> None:
        if self._opened_s is None:
            return
        opened_s, now_s = self._opened_s, self._clock()
        self._opened_s = self._fetch_until_s = None
        if self._start_on_close:
            self._start_on_close = False
            self.workers.start()
        self.workers.resume()
        self._unrecorded = (opened_s, now_s)
        self._record_resume()
        if jobs.leased(self._store.db, BUILDER, limit=1):
            self._meter.begin(now_s)

    def _record_resume(self) -> None:
        """Extend the leases of the builders that continued, and begin their spans. If the ledger
        cannot be written, ``tick`` tries again."""
        if self._unrecorded is None:
            return
        opened_s, resumed_s = self._unrecorded
        try:
            with self._store.atomic() as db:
                jobs.extend_pool(db, BUILDER, resumed_s - opened_s)
                running = {span.job for span in spans.still_open(db)}
                for job in jobs.leased(db, BUILDER):
                    if job.id not in running:
                        kind = registry.named(job.kind)
                        spans.start(db, job.campaign, kind.span, job.pool, job.id, resumed_s)
        except LedgerError as error:
            log.error("%s", error)
            return
        self._unrecorded = None

    def build_began(self) -> None:
        self._meter.begin(self._clock())

    def build_ended(self) -> None:
        if not self.is_open and not jobs.leased(self._store.db, BUILDER, limit=1):
            self._meter.end(self._clock())

    def tick(self) -> bool:
        """Do everything that is due. Returns whether the builders continue now."""
        self._record_resume()
        if self._stopping_until_s is not None and self._clock() >= self._stopping_until_s:
            self._stopping_until_s = None
            self.workers.resume()
            return True
        return self.close_if_idle()

    def due_at_s(self) -> float | None:
        """The next time at which ``tick`` has work, None if only an event brings any."""
        times = [t for t in (self._stopping_until_s, self._fetch_until_s) if t is not None]
        return min(times) if times else None
