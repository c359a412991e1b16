"""A small ledger and the journal of the same requests. Tests then change one of the two."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agents import protocol
from benchmarks.chaos.audit import Finding, audit
from benchmarks.chaos.journal import Exchange
from searcher.ledger.rows import AgentRow, JobRow
from tests.searcher_tests.dispatch.laboratory import Laboratory, envelope, measure_payload


@dataclass
class RecordedRun:
    """Sends requests to ``lab`` and records them in ``exchanges`` as the proxy would."""

    lab: Laboratory
    exchanges: list[Exchange] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    now_s: float = 0.0

    def journal(self, method: str, path: str, answer: Any, request: Any = None,
                **more: Any) -> Exchange:
        self.now_s += 1.0
        exchange = Exchange(len(self.exchanges), "someone", method, path, more.pop("query", {}),
                            self.now_s - 0.5, self.now_s, request, status=200, answer=answer,
                            passed=True, **more)
        self.exchanges.append(exchange)
        return exchange

    def submit(self, attempt: int = 1) -> JobRow:
        files = [self.lab.artifact(f"file {i}".encode()) for i in range(2)]
        payload = {**measure_payload(files[0], files[1]), "attempt": attempt}
        job = self.lab.coordinator.submit("measure", "device:board", payload)
        self.journal("POST", "/v1/jobs", {"job": job.id, "key": job.key}, {
            "kind": "measure", "pool": "device:board", "payload": payload})
        return job

    def lease(self, agent: AgentRow) -> JobRow:
        job = self.lab.leased(agent)
        self.journal("POST", "/v1/lease", {"job": job.id, "attempt": job.attempt,
                                           "fence": job.fence})
        return job

    def result(self, job: JobRow, content: bytes | None = None) -> tuple[str, bytes]:
        content = content or self.lab.result(job)
        sha256 = protocol.content_sha256(content)
        self.bodies[sha256] = content
        return sha256, content

    def put(self, agent: AgentRow, job: JobRow, content: bytes | None = None) -> Exchange:
        sha256, content = self.result(job, content)
        self.lab.put(agent, job, content)
        return self.journal("PUT", f"/v1/results/{job.id}/{job.attempt}", {"accepted": True},
                            query={"fence": str(job.fence)}, sha256=sha256)

    def expire(self) -> None:
        self.lab.clock.advance(1000.0)
        self.lab.coordinator.tick()

    def change(self, exchange: Exchange, **changes: Any) -> None:
        self.exchanges[exchange.number] = replace(exchange, **changes)

    def findings(self) -> dict[str, Finding]:
        found = audit(self.exchanges, self.lab.store.db, self.bodies.get,
                      self.lab.folder / "artifacts")
        return {finding.rule: finding for finding in found}

    def broken(self) -> set[str]:
        """Names of the rules that have violations."""
        return {rule for rule, finding in self.findings().items() if finding.violations}


def record_run(folder: Path) -> tuple[RecordedRun, AgentRow, JobRow, Exchange]:
    """Records an expired lease, a second lease with its result, and a failed job. Returns the run,
    the agent, the job and the exchange of its result."""
    run = RecordedRun(Laboratory.open(folder))
    agent = run.lab.device("board", hostname="elsewhere")
    run.submit()
    run.lease(agent)
    run.expire()
    job = run.lease(agent)
    accepted = run.put(agent, job)
    run.submit(attempt=2)
    failed = run.lease(agent)
    run.put(agent, failed, envelope({"reason": "io", "message": "broken"}, "failed"))
    run.lab.coordinator.store.commit()
    return run, agent, job, accepted
