"""Leases of jobs: granted, extended by heartbeats, ended by a result or lost.

The end of a lease wakes the lease requests that may succeed next, and the requests that wait for
the job.
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
    """Grants and ends the leases of agents and builders.

    ``lost`` counts the leases that ended without a result, by kind of job. ``publish`` is that of
    ``Coordinator``; ``artifacts`` is the folder with the files of results.
    """

    def __init__(
        self, store: Store, clock: Clock, rules: LeaseRules, device_rules: DeviceRules,
        roster: Roster, window: Window, eviction_policy: EvictionPolicy, artifacts: Path,
        publish: Callable[[str], bool],
    ) -> None:
        self._store, self._clock, self._publish = store, clock, publish
        self._rules, self._device_rules = rules, device_rules
        self._roster, self._window = roster, window
        self._eviction_policy, self._artifacts = eviction_policy, artifacts
        self._builders_with_leases: set[str] = set()
        self.lost: Counter[str] = Counter()

    def lease(self, agent: AgentRow, kinds: Sequence[str] = ()) -> JobRow | None:
        """Lease the next job to ``agent``. Returns None when no job is available for it now.

        ``kinds`` are the kinds of jobs that the agent can do, which grow when it updates itself.
        A lease that it still holds is lost: an agent asks only when it does not work on a job.
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
            if device is not None and device.holds_lease:  # A lost lease may change the state.
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
                return self._lease_in_window(agent)
        elif self._window.holds_builders:
            return None
        job = jobs.next_queued(self._store.db, agent.pool)
        return None if job is None else self._grant(job, agent)

    def retry_s(self, agent: AgentRow) -> float | None:
        """Seconds after which ``lease`` may succeed without a published topic; None for never."""
        if agent.device is None:
            return None
        if devices.device_state(self._store.db, agent.device) != "active":
            return None
        return self._window.opens_in_s(agent.pool)

    def _lease_in_window(self, agent: AgentRow) -> JobRow | None:
        job = jobs.next_queued(self._store.db, agent.pool)
        if job is None or not self._window.admits(agent.pool):
            if self._window.close_if_idle():
                self.wake_all_polls()
            return None
        stopped_s = self._window.try_open(agent.pool)
        if stopped_s is None:
            return None
        try:
            return self._grant(job, agent, stopped_s)
        except BaseException:
            self._window.cancel_opening()
            raise

    def _grant(self, job: JobRow, agent: AgentRow, stopped_s: float | None = None) -> JobRow:
        # A change of the quiet window is durable before the state in memory changes.
        with self._store.grouped() if stopped_s is None else self._store.atomic() as db:
            if stopped_s is not None:
                self._window.close_builder_spans(db, stopped_s)
            now_s = self._clock()
            leased = queue.grant(db, job, agent, self._rules, now_s)
            spans.start(db, job.campaign, registry.named(job.kind).span, job.pool, job.id, now_s)
        if agent.device is None:
            self._builders_with_leases.add(agent.id)
            self._window.build_began()
        elif stopped_s is not None:
            self._window.lease_began(agent.pool, stopped_s)
        return leased

    def heartbeat(
        self, agent: AgentRow, job_id: int, fence: int, progress: float | None
    ) -> Literal["continue", "cancel"]:
        """Extend a lease, see ``queue.heartbeat``. Raises ProtocolError (404, 409)."""
        with self._store.grouped() as db:
            return queue.heartbeat(
                db, job_id, fence, agent, progress, self._rules, self._clock())

    def put_result(
        self, agent: AgentRow, job_id: int, attempt: int, fence: int, sha256: str, content: bytes
    ) -> None:
        """Accept a result once. Raises ProtocolError (404, 409), and LedgerError when nothing was
        stored; then the same result may be sent again."""
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
                        extra=log_fields(job))
        if job.kind != "measure" and self._eviction_policy.grew(*rebuild.added(outcome)):
            self._publish("disk")
        self.after_lease(job)
        self.publish_end(job)

    def _account(self, db: Database, job: JobRow, ended_s: float) -> None:
        spans.end_of_job(db, job.id, ended_s)
        if job.campaign is not None and job.leased_s is not None:
            fair_share.charge(db, job.campaign, job.pool, ended_s - job.leased_s)

    def lose(self, job: JobRow, strike: bool, why: str) -> None:
        """End a lease without a result. The job is queued again, or fails (too many strikes)."""
        now_s = self._clock()
        with self._store.atomic() as db:
            state = queue.lose(db, job, strike, why, self._rules, now_s)
            self._account(db, job, now_s)
            if strike:
                health.struck(db, job, f"job {job.id} was lost: {why}", self._device_rules)
        self.lost[job.kind] += 1
        self.after_lease(job)
        if state == "queued":
            self._publish(job.pool)
        else:
            self.publish_end(job)

    def after_lease(self, job: JobRow) -> None:
        """After the end of a lease: update the quiet window and wake requests that may succeed."""
        if job.pool == BUILDER:
            self._window.build_ended()
            self.wake_device_polls()
        elif job.pool == self._window.measuring_pool:
            if self._window.lease_ended(job.pool):
                self.wake_all_polls()
            else:
                self.wake_next_device_poll()

    def publish_end(self, job: JobRow) -> None:
        """Wake the requests that wait for the end of the job."""
        for campaign in jobs.campaigns_of(self._store.db, job.id):
            self._publish(f"campaign:{campaign}")
        self._publish(f"job:{job.id}")

    def wake_device_polls(self) -> None:
        for pool in self._window.shared_pools():
            self._publish(pool)

    def wake_next_device_poll(self) -> None:
        """Wake one device while the window stays open. If all devices were woken, they would
        compete for one lease, and one device could get every measurement of the window."""
        for pool in self._window.next_pools():
            if self._publish(pool):
                return

    def wake_all_polls(self) -> None:
        self._publish(BUILDER)
        self.wake_device_polls()

    def forget_builder(self, agent_id: str) -> bool:
        """Forget a builder that ended. Returns whether it ever had a lease."""
        had_lease = agent_id in self._builders_with_leases
        self._builders_with_leases.discard(agent_id)
        return had_lease


def log_fields(job: JobRow) -> dict[str, object]:
    """The fields of a log record that name the job, its campaign and its device."""
    device = job.pool.partition(":")[2] or None
    return {"job": job.id, "campaign": job.campaign, "device": device}
