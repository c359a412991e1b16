"""State machine for hypothesis: the rules of leases hold for every order of events."""

import copy
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agents import protocol
from searcher.errors import LedgerError, ProtocolError
from searcher.ledger.rows import AgentRow, JobRow
from searcher.ledger.tables import campaigns, credentials, devices, jobs, spans
from tests.searcher_tests.dispatch.laboratory import SPEC, Laboratory, envelope, measure_payload

CAMPAIGNS = ("anna", "bert", "cleo")
DEVICES = {"local_cpu": "workbench", "far": "elsewhere"}
"""Names and hosts; the builders' host is ``workbench``."""

NUMBERS = st.integers(0, 3)
STATES = ("queued", "leased", "done", "failed", "cancelled")
ENDED = ("done", "failed", "cancelled")


@dataclass
class Answered:
    """Facts that the coordinator has acknowledged and that must stay true."""

    fence: int = 0
    jobs: set[int] = field(default_factory=set)
    leases: list[JobRow] = field(default_factory=list)
    accepted: dict[int, tuple[Any, ...]] = field(default_factory=dict)


class LeaseMachine(RuleBasedStateMachine):
    """Makes the calls of the routes. Every answer is durable when it is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.lab = Laboratory.open(self.folder)
        self.answered = Answered()
        self.agents: dict[str, AgentRow] = {}
        self.everyone: dict[str, AgentRow] = {}

    @initialize()
    def begin(self) -> None:
        with self.lab.store.atomic() as db:
            for name in CAMPAIGNS:
                campaigns.create(db, name, {**SPEC, "name": name}, self.lab.clock())
        for name in DEVICES:
            self._enrol(name)
        for name in ("builder-0", "builder-1"):
            self._add_builder(name)

    def teardown(self) -> None:
        try:
            self._finish_all_jobs()
        finally:
            self.lab.store.close()
            shutil.rmtree(self.folder)

    # events

    @rule(kind=st.sampled_from(["compress", *DEVICES]), number=NUMBERS, retry=st.booleans(),
          campaign=st.sampled_from([None, *CAMPAIGNS]), queue_s=st.sampled_from([None, 50.0]))
    def submit(self, kind: str, number: int, retry: bool, campaign: str | None,
               queue_s: float | None) -> None:
        more = {"campaign": campaign, "retry": retry, "queue_s": queue_s}
        try:
            if kind == "compress":
                job = self.lab.compress(number, **more)
            else:
                file = self.lab.artifact(b"candidate %d" % number)
                job = self.lab.coordinator.submit(
                    "measure", f"device:{kind}", measure_payload(file, file), **more)
        except (ProtocolError, LedgerError):
            return
        self.answered.jobs.add(job.id)
        if job.state == "queued":
            self.answered.accepted.pop(job.id, None)

    @rule(who=st.sampled_from([*DEVICES, "builder-0", "builder-1"]))
    def lease(self, who: str) -> None:
        agent = self.agents[who]
        try:
            job = self.lab.coordinator.lease(agent)
        except LedgerError:
            return
        if job is None:
            return
        assert job.fence is not None and job.fence > self.answered.fence
        assert job.pool == agent.pool and self._row(job.id).holder == agent.id
        self.answered.fence = job.fence
        self.answered.leases.append(job)

    @rule(number=NUMBERS, who=st.sampled_from([*DEVICES, "builder-0", "builder-1"]))
    def work(self, number: int, who: str) -> None:
        """Submit and lease, so that most states have a lease."""
        self.submit(who if who in DEVICES else "compress", number, True, None, None)
        self.lease(who)

    @precondition(lambda self: self.answered.leases)
    @rule(data=st.data(), progress=st.none() | st.floats(0, 1))
    def heartbeat(self, data: st.DataObject, progress: float | None) -> None:
        job, agent = self._some_lease(data)
        in_force = self._in_force(job, agent)
        try:
            self.lab.coordinator.heartbeat(agent, job.id, job.fence or 0, progress)
        except ProtocolError as error:
            assert not in_force and error.status == 409
        except LedgerError:
            return
        else:
            assert in_force

    @precondition(lambda self: self.answered.leases)
    @rule(data=st.data(), variant=st.sampled_from(
        ["right", "right", "failed", "blames the device", "malformed", "no json", "odd attempt",
         "odd fence"]))
    def result(self, data: st.DataObject, variant: str) -> None:
        job, agent = self._some_lease(data)
        content = {
            "failed": envelope({"reason": "crashed", "message": "signal 11"}, "failed"),
            "blames the device": envelope({"reason": "disk", "message": "full"}, "failed"),
            "malformed": envelope({"sha256": "../etc"}), "no json": b"{"}.get(variant)
        attempt = job.attempt + (variant == "odd attempt")
        fence = (job.fence or 0) - (variant == "odd fence")
        self._put(agent, job, attempt, fence, content or self.lab.result(job))

    @rule(by_s=st.sampled_from([0.5, 3.0, 20.0, 40.0, 500.0]))
    def time_passes(self, by_s: float) -> None:
        self.lab.clock.advance(by_s)
        self.lab.coordinator.tick()

    @rule(name=st.sampled_from(CAMPAIGNS), state=st.sampled_from(
        ["queued", "running", "running", "running", "paused", "cancelled"]))
    def decide(self, name: str, state: str) -> None:
        self._tried(self.lab.coordinator.set_campaign_state, name, state)

    @rule(name=st.sampled_from(CAMPAIGNS), kinds=st.sampled_from([[], ["measure"], ["compress"]]))
    def withdraw(self, name: str, kinds: list[str]) -> None:
        self._tried(self.lab.coordinator.cancel_queued, name, kinds)

    @rule(name=st.sampled_from(list(DEVICES)), state=st.sampled_from(
        ["active"] * 5 + ["draining", "quarantined", "removed"]))
    def set_device(self, name: str, state: str) -> None:
        self._tried(self.lab.coordinator.set_device_state, name, state)

    @rule(name=st.sampled_from(list(DEVICES)))
    def enrol_again(self, name: str) -> None:
        self._tried(self._enrol, name)

    @rule(name=st.sampled_from(["builder-0", "builder-1"]))
    def builder_dies(self, name: str) -> None:
        if self._tried(self.lab.coordinator.builder_ended, self.agents[name].id, "signal 9"):
            self._tried(self._add_builder, name)

    @rule(obeys=st.booleans())
    def builders_obey(self, obeys: bool) -> None:
        self.lab.workers.obeys = obeys

    @rule()
    def coordinator_is_killed(self) -> None:
        self._kill()
        for name in ("builder-0", "builder-1"):
            self._add_builder(name)

    # invariants

    @invariant()
    def every_job_has_its_place(self) -> None:
        db = self.lab.store.db
        rows = [jobs.get(db, job) for job in self.answered.jobs]
        assert all(row is not None and row.state in STATES for row in rows)
        leased = jobs.leased(db)
        assert len({job.holder for job in leased}) == len(leased)
        assert len({job.fence for job in leased}) == len(leased)
        for job in leased:
            holder = credentials.agent(db, job.holder or "")
            assert holder is not None and holder.revoked_s is None and holder.pool == job.pool

    @invariant()
    def strikes_are_bounded(self) -> None:
        rules, db = self.lab.coordinator.rules, self.lab.store.db
        for job in self.answered.jobs:
            assert self._row(job).strikes < rules.lease.most_strikes
        for device in devices.devices(db):
            assert device.strikes <= 2 * rules.device.most_strikes

    @invariant()
    def accepted_results_stay(self) -> None:
        for job, (sha256, state, result) in self.answered.accepted.items():
            row = self._row(job)
            assert (row.result_sha256, row.state, row.result) == (sha256, state, result)

    @invariant()
    def fences_only_grow(self) -> None:
        assert jobs.last_fence(self.lab.store.db) >= self.answered.fence

    @invariant()
    def nothing_is_built_while_it_measures(self) -> None:
        found = spans.history(self.lab.store.db)
        now_s = self.lab.clock.now_s
        times = [(span, span.start_s, now_s if span.end_s is None else span.end_s)
                 for span in found]
        measuring = [(start, end) for span, start, end in times if span.pool == "device:local_cpu"]
        building = [(start, end) for span, start, end in times if span.pool == "builder"]
        for start, end in measuring:
            assert not any(b < end and start < e for b, e in building), (start, end, building)

    # helpers

    def _row(self, job: int) -> JobRow:
        row = jobs.get(self.lab.store.db, job)
        assert row is not None
        return row

    def _enrol(self, name: str) -> None:
        self._known(name, self.lab.device(name, DEVICES[name]))

    def _add_builder(self, name: str) -> None:
        self._known(name, self.lab.builder(name))

    def _known(self, name: str, agent: AgentRow) -> None:
        self.agents[name] = self.everyone[agent.id] = agent

    def _tried(self, call: Any, *arguments: Any) -> bool:
        try:
            call(*arguments)
        except (ProtocolError, LedgerError):
            return False
        return True

    def _some_lease(self, data: st.DataObject) -> tuple[JobRow, AgentRow]:
        """A lease, mostly a recent one, with an agent, mostly its holder."""
        leases, held = self.answered.leases, {job.fence for job in jobs.leased(self.lab.store.db)}
        in_force = [job for job in leases if job.fence in held]
        if in_force and data.draw(st.integers(0, 3)):
            job = data.draw(st.sampled_from(in_force))
            return job, self.everyone[job.holder or ""]
        job = leases[-1 - data.draw(st.integers(0, min(len(leases), 8) - 1))]
        if data.draw(st.integers(0, 3)):
            return job, self.everyone[job.holder or ""]
        return job, self.agents[data.draw(st.sampled_from(sorted(self.agents)))]

    def _in_force(self, job: JobRow, agent: AgentRow) -> bool:
        row = self._row(job.id)
        return (row.state, row.fence, row.holder) == ("leased", job.fence, agent.id)

    def _put(self, agent: AgentRow, job: JobRow, attempt: int, fence: int, content: bytes) -> None:
        before, sha256 = self._row(job.id), protocol.content_sha256(content)
        same = (before.attempt, before.fence, before.holder) == (attempt, fence, agent.id)
        again = same and before.state in ENDED and before.result_sha256 == sha256
        try:
            self.lab.coordinator.put_result(agent, job.id, attempt, fence, sha256, content)
        except ProtocolError as error:
            assert not (same and before.state == "leased") and not again and error.status == 409
            assert self._row(job.id) == before
        except LedgerError:
            return
        else:
            assert again or same and before.state == "leased"
            after = self._row(job.id)
            assert after.result_sha256 == sha256 and (after == before) is again
            self.answered.accepted[job.id] = (sha256, after.state, after.result)

    def _kill(self) -> None:
        self.lab = self.lab.reopened()

    def _finish_all_jobs(self) -> None:
        """New agents finish all wanted jobs within bounded time."""
        if not self.agents:
            return
        self.lab.workers.obeys = True
        for name in DEVICES:
            self._enrol(name)
            self.lab.coordinator.set_device_state(name, "active")
        for name in ("builder-0", "builder-1"):
            self.lab.coordinator.builder_ended(self.agents[name].id, "signal 9")
            self._add_builder(name)
        for _ in range(60):
            self.lab.clock.advance(5.0)
            self.lab.coordinator.tick()
            for agent in self.agents.values():
                job = self.lab.coordinator.lease(agent)
                if job is not None:
                    self.lab.done(agent, job)
        for agent in self.agents.values():
            assert not jobs.queued(self.lab.store.db, agent.pool)
        self.every_job_has_its_place()
        self.accepted_results_stay()


class GroupedMachine(LeaseMachine):
    """The same with group commit: an answer counts after the commit of its batch. Commits fail,
    the disk fills up, and a kill loses what was not committed."""

    def __init__(self) -> None:
        super().__init__()
        self._group()

    @rule()
    def commit(self) -> None:
        self._tried(self.lab.store.commit)

    @precondition(lambda self: self.lab.store.batch is not None)
    @rule()
    def commit_fails(self) -> None:
        """A row that violates a constraint, which SQLite detects only at the COMMIT."""
        db = self.lab.store.db
        db.execute("PRAGMA defer_foreign_keys = ON")
        db.execute("INSERT INTO job_requests VALUES ('nobody', 999999)")
        assert not self._tried(self.lab.store.commit)

    @rule(number=NUMBERS, who=st.sampled_from([*DEVICES, "builder-0"]), data=st.data())
    def disk_is_full(self, number: int, who: str, data: st.DataObject) -> None:
        """SQLite cannot add a page to the database during these calls."""
        self._pages(1)
        self.work(number, who)
        if self.answered.leases:
            self.result(data, "right")
        self._pages(2**30)

    def _pages(self, most: int) -> None:
        self.lab.store.db.execute(f"PRAGMA max_page_count = {most}").fetchall()

    def _group(self) -> None:
        self.lab.store.opened = self._opened

    def _opened(self, batch: Any) -> None:
        before = copy.deepcopy(self.answered)

        def ended() -> None:
            if batch.error is not None:
                self.answered = before

        batch.when_ended(ended)
        self._before = before

    def _kill(self) -> None:
        if self.lab.store.batch is not None:
            self.answered = self._before
        self.lab.store.db.close()
        self.lab = Laboratory.open(self.folder, self.lab.clock)
        self._group()
