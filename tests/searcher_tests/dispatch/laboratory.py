"""A coordinator without processes: the test controls its clock, host and workers."""

import base64
import hashlib
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents import protocol
from searcher.devices.enrolment import Host
from searcher.dispatch.coordinator import Coordinator, Rules
from searcher.ledger.rows import AgentRow, JobRow
from searcher.ledger.store import Store
from searcher.spec.recipe import Recipe, Step

HOST = Host("workbench", "boot-1")
TARGET = {"opset": 13, "ir_version": 7, "number_formats": ["float32"], "int8_activations": "uint8"}
PLAN = {
    "name": "quick", "block_s": 0.004, "min_blocks": 6, "min_s": 0.0, "max_s": 3.0, "gate": 0.06,
    "fresh_session_every_s": 0.5, "warmup_s": 0.05, "memory": False, "processes": 1,
}
SPEC = {
    "name": "digits", "task": "lenet5-mnist", "seed": 0,
    "budget": {"candidates": 3, "wall_minutes": 1.0},
    "objectives": {"accuracy": "maximize", "latency_s": "minimize"},
    "devices": [{"profile": "local_cpu"}],
}
ENVIRONMENT = {
    "identity": {"hostname": "workbench"}, "runtime": {"onnxruntime": "1.32.0"}, "governor": None,
    "key": "e" * 64, "before": {"load_1min": 0.1}, "after": {"load_1min": 0.2},
    "steal_share": 0.0, "throttled": False,
}


RAILS = [{
    "meter": "ina3221", "times": protocol.pack_samples([0, 40_000_000, 80_000_000]),
    "values": protocol.pack_values([4100.0, 4200.5, float("nan")]),
    "rail": {"name": "VDD_IN_mw", "unit": "mW", "source": "in1_input", "covers": "board",
             "role": "total", "averaging": "instant", "update_s": 0.1, "wraps_at": None}}]
"""The polls of one rail while energy was measured."""


class FakeClock:
    """The test advances the time; each call adds a microsecond."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def advance(self, by_s: float) -> None:
        self.now_s += by_s


class FakeWorkers:
    """A worker pool that records its calls; ``obeys`` False simulates builders that stop late."""

    def __init__(self, count: int = 1) -> None:
        self.broken: str | None = None
        self.count = count
        self.obeys = True
        self.paused = self.started = False
        self.calls: list[str] = []

    def start(self) -> None:
        self.started = True
        self.calls.append("start")

    def pause(self) -> bool:
        self.calls.append("pause")
        self.paused = self.obeys
        return self.obeys

    def resume(self) -> None:
        self.calls.append("resume")
        self.paused = False

    def stop(self) -> None:
        self.count = 0
        self.calls.append("stop")

    def alive_count(self) -> int:
        return self.count


@dataclass
class Laboratory:
    """A coordinator with everything that a test of it needs."""

    folder: Path
    clock: FakeClock
    workers: FakeWorkers
    store: Store
    coordinator: Coordinator
    published: list[str] = field(default_factory=list)
    asleep: set[str] = field(default_factory=set)

    @classmethod
    def open(
        cls, folder: Path, clock: FakeClock | None = None, rules: Rules | None = None
    ) -> "Laboratory":
        clock, workers = clock or FakeClock(), FakeWorkers()
        store = Store(folder / "ledger.db")
        (folder / "artifacts").mkdir(exist_ok=True)
        coordinator = Coordinator(store, folder, clock, host=HOST, rules=rules)
        lab = cls(folder, clock, workers, store, coordinator)
        coordinator.publish = lab.publish
        coordinator.start(workers)
        return lab

    def publish(self, topic: str) -> bool:
        self.published.append(topic)
        return topic not in self.asleep

    def reopened(self) -> "Laboratory":
        """A new coordinator on the same ledger, as after a kill -9."""
        self.store.close()
        return Laboratory.open(self.folder, self.clock)

    def artifact(self, content: bytes) -> dict[str, Any]:
        sha256 = hashlib.sha256(content).hexdigest()
        (self.folder / "artifacts" / sha256).write_bytes(content)
        return {"sha256": sha256, "size_bytes": len(content)}

    def device(self, name: str = "local_cpu", hostname: str = "workbench") -> AgentRow:
        token, _ = self.coordinator.roster.invite(name, "agent", name, 60.0)
        agent, secret = self.coordinator.enrol(token, name, {"hostname": hostname}, {})
        recognised = self.coordinator.roster.recognised(secret)
        assert recognised is not None and recognised.id == agent.id
        return recognised

    def builder(self, name: str = "builder-0") -> AgentRow:
        _, secret = self.coordinator.roster.add_builder(name)
        recognised = self.coordinator.roster.recognised(secret)
        assert recognised is not None
        return recognised

    def compress(self, number: int = 0, **more: Any) -> JobRow:
        return self.coordinator.submit("compress", "builder", build_payload(number), **more)

    def measure(self, number: int = 0, candidates: int = 1, **more: Any) -> JobRow:
        files = [self.artifact(f"candidate {number} {i}".encode()) for i in range(candidates)]
        return self.coordinator.submit(
            "measure", "device:local_cpu", measure_payload(self.artifact(b"reference"), *files),
            **more)

    def leased(self, agent: AgentRow) -> JobRow:
        job = self.coordinator.lease(agent)
        assert job is not None, f"nothing to lease for {agent.pool}"
        return job

    def put(self, agent: AgentRow, job: JobRow, content: bytes) -> None:
        self.coordinator.put_result(
            agent, job.id, job.attempt, job.fence or 0, protocol.content_sha256(content), content)

    def done(self, agent: AgentRow, job: JobRow) -> None:
        """Report a result that fits the job."""
        self.put(agent, job, self.result(job))

    def result(self, job: JobRow) -> bytes:
        if job.kind == "measure":
            return envelope(measure_result(job.payload))
        if job.kind == "evaluate":
            return envelope({"evaluation": evaluation()})
        file = self.artifact(json.dumps(job.payload, sort_keys=True).encode())
        return envelope(build_result(file))


def envelope(result: dict[str, Any], state: str = "done") -> bytes:
    return json.dumps({"state": state, "result": result}).encode()


def recipe(number: int = 0) -> Recipe:
    return Recipe((Step.of("svd", "fully_connected", {"rank": number + 1}),))


def build_payload(number: int = 0) -> dict[str, Any]:
    return {
        "task": "lenet5-mnist", "recipe": recipe(number).as_list(), "seed": 0, "target": TARGET}


def measure_payload(reference: dict[str, Any], *candidates: dict[str, Any]) -> dict[str, Any]:
    return {
        "reference": reference, "candidates": list(candidates), "runtime": "onnxruntime",
        "options": {"threads": 1, "graph_level": "all", "batch": 1}, "plan": PLAN,
        "quiet_level_s": None, "input_seed": 0, "attempt": 1,
    }


def evaluation(value: float = 0.75) -> dict[str, Any]:
    return {"metric": "accuracy", "value": value, "n": 8,
            "scores": base64.b64encode(b"\xfc").decode(), "encoding": "bits"}


def build_result(file: dict[str, Any]) -> dict[str, Any]:
    return {
        "build_key": "build-" + file["sha256"][:12], "sha256": file["sha256"],
        "file_bytes": file["size_bytes"], "graph_key": "graph", "probe_outputs": [0.25, 0.75],
        "report": {"parameters": 10, "macs": 20, "nonzero_share": 1.0, "layers": [], "notes": []},
        "evaluation": evaluation(), "built_steps": 1, "reused_steps": 0,
    }


def measured(sha256: str, level_s: float = 1e-4, ratio: float = 0.5, blocks: int = 12) -> dict[
        str, Any]:
    """One candidate ``ratio`` times as slow as a reference that is quiet in every block."""
    rng = random.Random(0)
    calls = [int(ratio * level_s * 1e9 * (1 + 0.01 * rng.random())) for _ in range(3 * blocks)]
    medians = [sorted(calls[3 * b:3 * b + 3])[1] * 1e-9 for b in range(blocks)]
    return {
        "sha256": sha256, "verdict": "valid", "reasons": [], "load_s": 0.01, "first_s": 0.001,
        "blocks": {"candidate_s": medians, "before_s": [level_s] * blocks,
                   "after_s": [level_s] * blocks},
        "samples": protocol.pack_samples(calls), "sample_blocks": [3] * blocks,
        "outputs": [0.25, 0.75], "provider": "CPUExecutionProvider", "memory_bytes": None,
    }


def measure_result(payload: dict[str, Any], level_s: float = 1e-4) -> dict[str, Any]:
    return {
        "quiet_level_s": level_s, "reference_blocks": 24, "quiet_share": 1.0,
        "environment": ENVIRONMENT,
        "measurements": [measured(c["sha256"], level_s) for c in payload["candidates"]],
    }
