"""Leases: granted, kept alive, ended by a result or lost.

Whoever ends a lease tells those who may lease next, and whoever waits for the job.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from sqlite_utils import Database

from searcher.artifacts.eviction import EvictionPolicy
from searcher.devices import health
from searcher.devices.health import DeviceRules
from searcher.devices.roster import Roster
from searcher.dispatch import queue, rebuild
from searcher.dispatch.queue import LeaseRules
from searcher.dispatch.quiet_window import Window
from searcher.jobs import registry, results
from searcher.jobs.base import BUILDER
from searcher.ledger.clock import Clock
from searcher.ledger.rows import AgentRow, JobRow
from searcher.ledger.store import Store
from searcher.ledger.tables import devices, fair_share, jobs, spans

log = logging.getLogger(__name__)


class Leases:
    """Who holds what. ``lost`` counts, by kind of job, leases that ended without a result.

    ``ring`` as in ``Coordinator``; files of results lie in ``artifacts``.
    """

    def __init__(
        self, store: Store, clock: Clock, rules: LeaseRules, device_rules: DeviceRules,
        roster: Roster, window: Window, keeping: EvictionPolicy, artifacts: Path,
        ring: Callable[[str], bool],
    ) -> None:
        self._store, self._clock, self._ring = store, clock, ring
        self._rules, self._device_rules = rules, device_rules
        self._roster, self._window = roster, window
        self._keeping, self._artifacts = keeping, artifacts
        self._employed: set[str] = set()
        self.lost: Counter[str] = Counter()

    def lease(self, agent: AgentRow, kinds: Sequence[str] = ()) -> JobRow | None:
        """The agent's next job, leased; None when there is nothing for it now. ``kinds`` are the
        jobs that it says it can do: an agent that has updated itself can do more than it told when
        it enrolled.

        Whatever it held before is lost: it would not ask if it still worked on it.
        """
        if self._roster.is_revoked(agent):
            return None
        device = (None if agent.device is None
                  else devices.poll_state(self._store.db, agent.device, agent.id))
        if device is None or device.holds_lease:
            for held in jobs.held_by(self._store.db, agent.pool, agent.id):
                self.lose(held, True, "its holder asked for other work")
        now_s = self._clock()
        if agent.device is not None:
            if device is not None and device.holds_lease:  # losing a lease may have changed it
                device = devices.poll_state(self._store.db, agent.device, agent.id)
            if device is None:
                return None
            with self._store.grouped() as db:
                if kinds:
                    health.learn_kinds(db, agent.device, kinds)
                devices.device_seen(db, agent.device, now_s)
            if device.state != "active":
                return None
            if device.shares_host:
                return self._lease_quietly(agent)
        elif self._window.holds_builders:
            return None
        job = jobs.next_queued(self._store.db, agent.pool)
        return None if job is None else self._grant(job, agent)

    def retry_s(self, agent: AgentRow) -> float | None:
        """Seconds after which ``lease`` may answer differently although nothing rings."""
        if agent.device is None:
            return None
        if devices.device_state(self._store.db, agent.device) != "active":
            return None
        return self._window.opens_in_s(agent.pool)

    def _lease_quietly(self, agent: AgentRow) -> JobRow | None:
        job = jobs.next_queued(self._store.db, agent.pool)
        if job is None or not self._window.admits(agent.pool):
            if self._window.settle():
                self.builders_may_lease()
            return None
        stopped_s = self._window.try_open(agent.pool)
        if stopped_s is None:
            return None
        try:
            return self._grant(job, agent, stopped_s)
        except BaseException:
            self._window.give_up()
            raise

    def _grant(self, job: JobRow, agent: AgentRow, stopped_s: float | None = None) -> JobRow:
        # What changes who may run on this host is on the disk before memory follows.
        with self._store.grouped() if stopped_s is None else self._store.atomic() as db:
            if stopped_s is not None:
                self._window.close_builder_spans(db, stopped_s)
            now_s = self._clock()
            leased = queue.grant(db, job, agent, self._rules, now_s)
            spans.start(db, job.campaign, registry.named(job.kind).span, job.pool, job.id, now_s)
        if agent.device is None:
            self._employed.add(agent.id)
            self._window.build_began()
        elif stopped_s is not None:
            self._window.lease_began(agent.pool, stopped_s)
        return leased

    def heartbeat(
        self, agent: AgentRow, job_id: int, fence: int, progress: float | None
    ) -> Literal["continue", "cancel"]:
        """Raises ProtocolError (404, 409)."""
        with self._store.grouped() as db:
            return queue.heartbeat(
                db, job_id, fence, agent, progress, self._rules, self._clock())

    def put_result(
        self, agent: AgentRow, job_id: int, attempt: int, fence: int, sha256: str, content: bytes
    ) -> None:
        """Accept a result once. Raises ProtocolError (404, 409), or LedgerError with nothing
        stored, after which the same result may come again."""
        shared = agent.pool == self._window.measuring_pool
        with self._store.atomic() if shared else self._store.grouped() as db:
            job = queue.job_of(db, job_id)
            if queue.already_accepted(job, attempt, fence, agent, sha256):
                return
            outcome = rebuild.compared(db, job, results.outcome_of(
                db, job, content, self._artifacts, self._clock()))
            ended_s = self._clock()
            jobs.finish(
                db, job.id, outcome.state, ended_s, result=outcome.result, result_sha256=sha256,
                reason=outcome.reason, message=outcome.message,
            )
            self._account(db, job, ended_s)
            if outcome.state == "done":
                health.succeeded(db, job.pool)
            else:
                health.failed(db, job, outcome.reason or "", outcome.message or "",
                              self._device_rules)
        if outcome.reason is not None:
            log.warning("job %d (%s): %s: %s", job.id, job.kind, outcome.reason, outcome.message,
                        extra=about(job))
        if job.kind != "measure" and self._keeping.grew(*rebuild.added(outcome)):
            self._ring("disk")
        self.over(job)
        self.finished(job)

    def _account(self, db: Database, job: JobRow, ended_s: float) -> None:
        spans.end_of_job(db, job.id, ended_s)
        if job.campaign is not None and job.leased_s is not None:
            fair_share.charge(db, job.campaign, job.pool, ended_s - job.leased_s)

    def lose(self, job: JobRow, strike: bool, why: str) -> None:
        """The lease ends without a result; the job is queued again, or has failed too often."""
        now_s = self._clock()
        with self._store.atomic() as db:
            state = queue.lose(db, job, strike, why, self._rules, now_s)
            self._account(db, job, now_s)
            if strike:
                health.struck(db, job, f"job {job.id} was lost: {why}", self._device_rules)
        self.lost[job.kind] += 1
        self.over(job)
        if state == "queued":
            self._ring(job.pool)
        else:
            self.finished(job)

    def over(self, job: JobRow) -> None:
        """The job runs no more; the quiet window moves on."""
        if job.pool == BUILDER:
            self._window.build_ended()
            self.measurers_may_lease()
        elif job.pool == self._window.measuring_pool:
            if self._window.lease_ended(job.pool):
                self.builders_may_lease()
            else:
                self.next_may_lease()

    def finished(self, job: JobRow) -> None:
        """The job has ended; those who wait for it are told."""
        for campaign in jobs.campaigns_of(self._store.db, job.id):
            self._ring(f"campaign:{campaign}")
        self._ring(f"job:{job.id}")

    def measurers_may_lease(self) -> None:
        for pool in self._window.shared_pools():
            self._ring(pool)

    def next_may_lease(self) -> None:
        """While a window stays open its devices take turns: all of them at once would ask for the
        one lease, and whoever was first in the window would have all of it."""
        for pool in self._window.next_pools():
            if self._ring(pool):
                return

    def builders_may_lease(self) -> None:
        self._ring(BUILDER)
        self.measurers_may_lease()

    def dismiss(self, agent_id: str) -> bool:
        """A builder is gone for good. True if it had ever been given a job."""
        employed = agent_id in self._employed
        self._employed.discard(agent_id)
        return employed


def about(job: JobRow) -> dict[str, object]:
    """What a line of the log is about."""
    device = job.pool.partition(":")[2] or None
    return {"job": job.id, "campaign": job.campaign, "device": device}
