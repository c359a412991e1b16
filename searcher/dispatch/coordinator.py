"""The coordinator: decides which job runs next on which builder or device.

A device on this host shares its cores with the builders. It gets a measurement only in a quiet
window, while the builders are stopped::

    builder   ====build====|                    |====build===
                           stop ...... continue
    device                   |measure| |measure|
    spans     [   build   ]  [measure] [measure] [  build   ...

Every change is one transaction of the ledger. Memory holds only what may be lost at a restart.
"""

import logging
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from searcher.artifacts.eviction import EvictionPolicy
from searcher.devices import health
from searcher.devices.enrolment import Host
from searcher.devices.health import DeviceRules
from searcher.devices.roster import Roster
from searcher.dispatch import queue, rebuild
from searcher.dispatch.admission import Admission
from searcher.dispatch.leases import Leases, log_fields
from searcher.dispatch.queue import LeaseRules
from searcher.dispatch.quiet_window import Window, WindowRules
from searcher.errors import DroppedError, LedgerError, ProtocolError
from searcher.jobs import fields, inspect
from searcher.jobs.base import BUILDER, pool_of
from searcher.jobs.registry import kind_of, request_of
from searcher.ledger.clock import Clock
from searcher.ledger.rows import AgentRow, CampaignRow, DeviceRow, JobRow
from searcher.ledger.store import Store
from searcher.ledger.tables import artifacts, campaigns, fair_share, jobs, search_state, spans
from searcher.ledger.tables.search_state import SearchState
from searcher.workers.base import NoWorkers, WorkerPool

log = logging.getLogger(__name__)

TICK_AT_MOST_S = 1.0


@dataclass(frozen=True)
class Rules:
    """All tunable rules of the coordinator."""

    lease: LeaseRules = field(default_factory=LeaseRules)
    window: WindowRules = field(default_factory=WindowRules)
    device: DeviceRules = field(default_factory=DeviceRules)


class Coordinator:
    """Owns the ledger, the queue and the workers. Use it from one thread.

    This class has the operations of campaigns and operators; ``leases`` has those of agents.
    ``publish(topic)`` is called after every change that a request may wait for, and returns
    whether a request was waiting. Topics are pools (``builder``, ``device:<name>``),
    ``campaign:<name>``, ``job:<id>`` and ``disk``.
    """

    def __init__(
        self, store: Store, folder: Path, clock: Clock, *, host: Host,
        rules: Rules | None = None, publish: Callable[[str], bool] = lambda topic: False,
        admission: Admission | None = None,
    ) -> None:
        self.store, self.folder, self.clock = store, folder, clock
        self.roster = Roster(store, clock, host)
        self.rules = rules or Rules()
        self.publish = publish
        self.admission = admission or Admission()
        self.campaigns_changed: Callable[[], None] = lambda: None
        self.artifacts = folder / "artifacts"
        self.eviction_policy = EvictionPolicy(store, folder, clock)
        self.workers: WorkerPool = NoWorkers()
        self.window = Window(store, self.rules.window, clock)
        self._started_s = clock()
        self.leases = Leases(
            store, clock, self.rules.lease, self.rules.device, self.roster, self.window,
            self.eviction_policy, self.artifacts, lambda topic: self.publish(topic))

    def start(self, workers: WorkerPool) -> None:
        """Recover the jobs of the previous coordinator process and start ``workers``.

        Its builders ended with it, so their jobs are queued again. Agents may still run, so their
        leases stay in force for one lease time from now. While an agent on this host measures,
        the builders do not start.
        """
        self.workers = self.window.workers = workers
        now_s = self.clock()
        self.roster.start()
        with self.store.atomic() as db:
            for job in jobs.leased(db):
                if job.pool == BUILDER:
                    queue.lose(
                        db, job, False, "the coordinator was restarted", self.rules.lease, now_s
                    )
                else:
                    expires_s = now_s + self.rules.lease.ttl_s(job.pool)
                    jobs.keep_until(db, job.id, expires_s, expires_s + request_of(
                        job).deadline_s())
            for span in spans.still_open(db):
                ran = queue.job_of(db, span.job)
                if ran.state != "leased":
                    spans.end_of_job(db, ran.id, ran.heartbeat_s or span.start_s)
        if self.window.measuring():
            self.window.restore_open(now_s)
        else:
            workers.start()

    def stop(self) -> None:
        self.workers.stop()

    def tick(self) -> float:
        """Do everything that is due. Returns the seconds until the next call."""
        now_s = self.clock()
        try:
            for job in queue.expired(self.store.db, now_s, self.window.is_open):
                log.warning("job %d: no heartbeat, its lease ends", job.id, extra=log_fields(job))
                self.leases.lose(job, True, "no heartbeat within the lease")
            self._fail_late_jobs(now_s)
            self._fail_builds_of_broken_pool()
            if self.window.tick():
                self.leases.wake_all_polls()
            self.campaigns_changed()
        except (LedgerError, sqlite3.Error) as error:
            log.error("%s", error)
            return TICK_AT_MOST_S
        due_s = min(jobs.next_end_s(self.store.db) or math.inf,
                    self.window.due_at_s() or math.inf)
        return min(max(due_s - now_s, 0.01), TICK_AT_MOST_S)

    def _fail_late_jobs(self, now_s: float) -> None:
        late = jobs.waited_too_long(self.store.db, now_s)
        if late:
            with self.store.atomic() as db:
                queue.time_out(db, late, now_s)
        for job in late:
            self.leases.publish_end(job)

    def enrol(
        self, token: str, name: str, fingerprint: Mapping[str, object],
        capabilities: Mapping[str, object],
    ) -> tuple[AgentRow, str]:
        """Enrol an agent and return it with its secret. Jobs of the agents that it replaces are
        queued again."""
        enrolled = self.roster.enrol(token, name, fingerprint, capabilities)
        for gone in enrolled.replaced:
            for job in jobs.held_by(self.store.db, gone.pool, gone.id):
                strike = (job.leased_s or 0.0) >= self._started_s
                self.leases.lose(job, strike, "a new agent replaced the one that held the lease")
        return enrolled.agent, enrolled.secret

    def builder_ended(self, agent_id: str, why: str) -> bool:
        """Handle the end of a builder process. Returns whether it ever had a lease."""
        self.roster.revoke(agent_id)
        for job in jobs.held_by(self.store.db, BUILDER, agent_id):
            log.warning("job %d: its builder ended (%s)", job.id, why, extra=log_fields(job))
            self.leases.lose(job, True, f"its builder ended ({why})")
        return self.leases.forget_builder(agent_id)

    def submit(
        self, kind: str, pool: str, payload: Mapping[str, object], campaign: str | None = None,
        priority: int = 0, retry: bool = False, queue_s: float | None = None,
    ) -> JobRow:
        """Submit a request. Returns its job, new or existing; the job fails unless it is leased
        within ``queue_s``. Raises ProtocolError (400, 404, 409), and DroppedError (410) for a
        dropped file, see ``rebuild``."""
        request = kind_of(kind, pool).parse(payload)
        health.check_kind(self.store.db, kind, pool)
        task = request.named_task()
        if task is not None:
            self.admission.check_task(task)
        if not queue.is_done(self.store.db, kind, pool, payload):
            for sha256 in request.files():
                self.eviction_policy.touch(self.artifact_path(sha256))
            for sha256 in request.models():
                inspect.check(self.store.db, sha256)
        with self.store.atomic() as db:
            job = queue.submit(
                db, kind, pool, payload, campaign, priority, retry, self.clock(), queue_s
            )
        return self._queued(job)

    def rebuild(self, sha256: str, campaign: str | None = None) -> JobRow:
        """Submit the job that builds a dropped file again. Raises ProtocolError (400, 404, 409)."""
        path = self.artifacts / fields.sha256_of(sha256, "sha256")
        with self.store.atomic() as db:
            job = rebuild.submit(db, sha256, path.is_file(), campaign, self.clock())
        return self._queued(job)

    def _queued(self, job: JobRow) -> JobRow:
        if job.state == "queued":
            self._fail_builds_of_broken_pool()
            self.publish(job.pool)
        return queue.job_of(self.store.db, job.id)

    def set_device_state(
        self, name: str, state: health.State, reason: str | None = None
    ) -> DeviceRow:
        """Change the state of a device for an operator. Raises ProtocolError (404, 409)."""
        pool, now_s = pool_of(name), self.clock()
        with self.store.atomic() as db:
            device = health.change(db, name, state, reason, now_s)
            failed = []
            if state == "removed":
                failed = queue.fail_pool(db, pool, f"Device {name!r} was removed.", now_s)
                spans.end_of_pool(db, pool, now_s)
        for job in failed:
            if job.state == "leased":
                self.leases.after_lease(job)
            self.leases.publish_end(job)
        self.publish(pool)
        return device

    def artifact_path(self, sha256: str) -> Path:
        """The path of a stored file. Raises ProtocolError (400, 404), and DroppedError (410) for a
        file that is known but no longer stored."""
        path = self.artifacts / fields.sha256_of(sha256, "sha256")
        if not path.is_file():
            if artifacts.is_known(self.store.db, sha256):
                raise DroppedError(sha256)
            raise ProtocolError(f"There is no artifact {sha256}.", 404)
        return path

    def set_campaign_state(
        self, name: str, state: str, reason: str | None = None,
    ) -> CampaignRow:
        """Change the state of a campaign; the end of a campaign cancels its remaining jobs.

        Raises ProtocolError (404, 409).
        """
        now_s = self.clock()
        with self.store.atomic() as db:
            present = self.campaign(name).state
            if present not in campaigns.MAY_FOLLOW[state]:
                raise ProtocolError(
                    f"Campaign {name} is {present}; it cannot become {state}. "
                    f"{campaigns.WAY_OUT[present]}", 409
                )
            if state in campaigns.LIVE and present not in campaigns.LIVE:
                fair_share.enter(db, name)
            campaigns.set_state(db, name, state, reason, now_s)
            cancelled = queue.cancel_unwanted(db, name, now_s) if state in campaigns.ENDED else []
        if self.window.close_if_idle():
            self.leases.wake_all_polls()
        elif cancelled:
            self.leases.wake_device_polls()
        self.publish(f"campaign:{name}")
        for job in cancelled:
            self.leases.publish_end(job)
        if state != present:
            self.campaigns_changed()
        if state in campaigns.LIVE:
            for pool in {BUILDER, *self.window.shared_pools()}:
                self.publish(pool)
        return self.campaign(name)

    def save_search_state(self, name: str, device: str, state: SearchState) -> None:
        """Replace the search state of a campaign on a device. A queued campaign becomes running:
        its search outlived a coordinator. Raises ProtocolError (404; 409 unless the campaign is
        queued or running)."""
        present = self.campaign(name).state
        if present not in campaigns.LIVE:
            raise ProtocolError(f"Campaign {name} is {present}, not running: the state of its "
                                "search was not saved.", 409)
        with self.store.atomic() as db:
            search_state.put(db, name, device, state, self.clock())
        if present == "queued":
            self.set_campaign_state(name, "running")

    def campaign(self, name: str) -> CampaignRow:
        """Raises ProtocolError (404)."""
        row = campaigns.get(self.store.db, name)
        if row is None:
            raise ProtocolError(f"There is no campaign {name[:100]!r}.", 404)
        return row

    def cancel_queued(self, campaign: str, kinds: Sequence[str]) -> int:
        """Cancel the campaign's jobs without a lease. Returns their number. Raises ProtocolError
        (404)."""
        self.campaign(campaign)
        with self.store.atomic() as db:
            cancelled = queue.cancel_queued(db, campaign, kinds, self.clock())
        if self.window.close_if_idle():
            self.leases.wake_all_polls()
        elif cancelled:
            self.leases.wake_device_polls()
        for job in cancelled:
            self.leases.publish_end(job)
        return len(cancelled)

    def lease(self, agent: AgentRow, kinds: Sequence[str] = ()) -> JobRow | None:
        """See ``Leases.lease``."""
        return self.leases.lease(agent, kinds)

    def retry_s(self, agent: AgentRow) -> float | None:
        """See ``Leases.retry_s``."""
        return self.leases.retry_s(agent)

    def heartbeat(
        self, agent: AgentRow, job_id: int, fence: int, progress: float | None
    ) -> Literal["continue", "cancel"]:
        """See ``Leases.heartbeat``."""
        return self.leases.heartbeat(agent, job_id, fence, progress)

    def put_result(
        self, agent: AgentRow, job_id: int, attempt: int, fence: int, sha256: str, content: bytes
    ) -> None:
        """See ``Leases.put_result``."""
        self.leases.put_result(agent, job_id, attempt, fence, sha256, content)

    def _fail_builds_of_broken_pool(self) -> None:
        """Fail all queued builds when the pool is broken: no builder would ever lease them."""
        why = self.workers.broken
        if why is None:
            return
        for job in jobs.queued(self.store.db, BUILDER):
            with self.store.atomic() as db:
                jobs.finish(
                    db, job.id, "failed", self.clock(), reason="no_builder", message=why
                )
            self.leases.publish_end(job)
