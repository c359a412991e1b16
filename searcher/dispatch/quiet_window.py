"""The quiet window: builders on this host are stopped while a device on it measures."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlite_utils import Database

from searcher.errors import LedgerError
from searcher.jobs import registry
from searcher.jobs.base import BUILDER
from searcher.jobs.registry import request_of
from searcher.ledger.rows import JobRow
from searcher.ledger.store import Store
from searcher.ledger.tables import devices, jobs, spans
from searcher.workers.base import NoWorkers, WorkerPool

log = logging.getLogger(__name__)


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


class Window:
    """Opens (builders stop), holds one measurement after another, closes (builders continue).

    ``is_open`` is true from the moment builders are known to have stopped until they continue.
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
        self._owed: tuple[float, float] | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_s is not None

    @property
    def measuring_pool(self) -> str | None:
        """The device on this host that measures now."""
        return self._measuring_pool

    @property
    def holds_builders(self) -> bool:
        """Whether builders are stopped, or asked to: none of them gets a job."""
        return self.is_open or self._stopping_until_s is not None

    def shared_pools(self) -> list[str]:
        """Pools of the devices on this host, the one first that has not measured for longest."""
        pools = [f"device:{name}" for name in devices.names_on_this_host(self._store.db)]
        return sorted(pools, key=lambda pool: self._began_s.get(pool, 0.0))

    def next_pools(self) -> list[str]:
        """Those of ``shared_pools`` whose device may lease something."""
        queued = jobs.queued_on_this_host(self._store.db)
        return [pool for pool in self.shared_pools() if pool in queued]

    def measuring(self) -> list[JobRow]:
        """Leased jobs of devices on this host; never more than one at a time."""
        return jobs.leased_on_this_host(self._store.db)

    def _waiting(self) -> bool:
        return bool(jobs.queued_on_this_host(self._store.db))

    def _building(self) -> bool:
        """Whether a builder works, or is about to fetch work that is queued."""
        if jobs.leased(self._store.db, BUILDER, limit=1):
            return True
        return (self.workers.alive_count() > 0
                and jobs.next_queued(self._store.db, BUILDER) is not None)

    def admits(self, pool: str) -> bool:
        """Whether a device may measure now, as far as the rules go."""
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
        """Seconds after which time alone may have opened the window; None when only an event
        can help."""
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
        """Stop the builders; when they stopped, or None if they have yet to."""
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

    def found_open(self, now_s: float) -> None:
        """At start: an agent on this host still measures, so the builders do not start yet."""
        self._opened_s, self._start_on_close = now_s, True
        self._measuring_pool = self.measuring()[0].pool

    def give_up(self) -> None:
        """The lease for which builders were stopped could not be stored."""
        if self._opened_s is None:
            self.workers.resume()

    def lease_ended(self, pool: str) -> bool:
        """A device's lease is over; True if the builders continue now."""
        if pool != self._measuring_pool:
            return False
        self._measuring_pool = None
        if self._waiting():
            self._fetch_until_s = self._clock() + self._rules.grace_s
        return self.settle()

    def settle(self) -> bool:
        """Close if nothing is left to measure; True if the builders continue now."""
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
        self._owed = (opened_s, now_s)
        self._pay()
        if jobs.leased(self._store.db, BUILDER, limit=1):
            self._meter.begin(now_s)

    def _pay(self) -> None:
        """Account for the builders that continued; kept for later if the ledger refuses."""
        if self._owed is None:
            return
        opened_s, resumed_s = self._owed
        try:
            with self._store.atomic() as db:
                jobs.extend(db, BUILDER, resumed_s - opened_s)
                running = {span.job for span in spans.still_open(db)}
                for job in jobs.leased(db, BUILDER):
                    if job.id not in running:
                        kind = registry.named(job.kind)
                        spans.start(db, job.campaign, kind.span, job.pool, job.id, resumed_s)
        except LedgerError as error:
            log.error("%s", error)
            return
        self._owed = None

    def build_began(self) -> None:
        self._meter.begin(self._clock())

    def build_ended(self) -> None:
        if not self.is_open and not jobs.leased(self._store.db, BUILDER, limit=1):
            self._meter.end(self._clock())

    def tick(self) -> bool:
        """Whatever has come due; True if the builders continue now."""
        self._pay()
        if self._stopping_until_s is not None and self._clock() >= self._stopping_until_s:
            self._stopping_until_s = None
            self.workers.resume()
            return True
        return self.settle()

    def due_at_s(self) -> float | None:
        """When ``tick`` has something to do unless something comes in."""
        times = [t for t in (self._stopping_until_s, self._fetch_until_s) if t is not None]
        return min(times) if times else None
