"""A coordinator in memory for ``searcher.search.loop``: it answers at once and keeps the time
itself. It keeps plain JSON, and parses each answer as ``searcher.client.http`` does.

``script`` maps the first step's ``strategy`` of a recipe to a ``Fate``; others have the default.
"""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agents.protocol import DEVICE_KINDS, NOT_PREPARED, RUNTIMES
from searcher.client import records
from searcher.client.records import FinishedJobs, Job, Trial
from searcher.documents import parse, plain
from searcher.ledger.rows import TrialParameters
from searcher.ledger.tables.search_state import SearchState, TaskFacts
from searcher.search.device_quality import OnDevice
from searcher.search.device_search import DeviceSearch
from searcher.search.loop import SearchLoop
from searcher.search.payloads import Requests
from searcher.search.recipes.tables import Scans
from searcher.search.sampling import STARTUP_TRIALS, Proposal
from searcher.search.space import Space
from searcher.spec.campaign import Campaign, from_document
from searcher.spec.objectives import resolved
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.scored_split import quality_of_metric
from strategies.layers import layers_of
from strategies.target import Target
from tests.tasks_for_tests import network

DEVICE = "fake"
N = 1000
LEVEL_S = 1e-3
COST_S = {"compress": 1.0, "train": 10.0, "measure": 2.0, "evaluate": 0.5, "infer": 0.5,
          "prepare": 1.0, "scan": 0.0}


class Killed(Exception):
    """Simulates the death of the search process."""


@dataclass
class Fate:
    """What becomes of one recipe. ``busy``: how many measurements are invalid at first, ``vague``:
    how many of the trained file are valid and wrong, each less so than the one before. ``wins``:
    the accuracy that extended training adds. Then
    three of the front's measurement together: another ratio, busy at first, a crash. The last are
    of the device: its accuracy if it is another, how often it fails to tell, what runs the file,
    why it cannot be prepared."""

    ratio: float = 0.5
    file_bytes: int = 500
    accuracy: float = 0.98
    short_accuracy: float | None = None
    repaired_accuracy: float | None = None
    wins: float = 0.0
    fails: tuple[str, str] | None = None
    busy: int = 0
    vague: int = 0
    rough_ratio: float | None = None
    measured: str = "valid"
    breaks_trained: bool = False
    changes: float | None = None
    busy_together: int = 0
    crashes_together: bool = False
    there: float | None = None
    infer_fails: int = 0
    provider: str = "CPUExecutionProvider"
    unprepared: str | None = None


@dataclass
class FakeCoordinator:
    """The part of ``searcher.client.http.CoordinatorClient`` that a search uses."""

    spec: dict[str, Any]
    script: dict[str, Fate] = field(default_factory=dict)
    now_s: float = 0.0
    state: str = "queued"
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Search states by device."""
    dies_at: int | None = None
    dies_on: str | None = None
    jobs: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    ended_trials: list[tuple[int, str]] = field(default_factory=list)
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    scans: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Results of scans by strategy, or reason and message of one that fails; others are empty."""
    saved: list[float] = field(default_factory=list)
    engines: set[str] = field(default_factory=set)
    """Files that are prepared on the device."""
    judged: Callable[[float], dict[str, Any]] = field(default=lambda value: evaluation(value))
    """The evaluation of a file with this accuracy."""

    def __post_init__(self) -> None:
        self.script.setdefault("baseline", Fate(1.0, 1000, 0.99))

    @property
    def search_state(self) -> SearchState:
        """The last saved state of the search."""
        return parse(SearchState, self.states[DEVICE])

    # -- campaigns and trials ----------------------------------------------------------------

    def campaign(self, name: str) -> records.CampaignRecord:
        return parse(records.CampaignRecord, {
            "name": name, "spec": self.spec, "state": self.state, "created_s": 0.0,
            "started_s": None, "ended_s": None, "reason": None, "priority": 0,
            "search_states": self.states})

    def set_state(self, name: str, state: str, reason: str | None = None) -> records.CampaignRecord:
        self.state = state
        return self.campaign(name)

    def save_search_state(self, name: str, device: str, state: SearchState) -> None:
        assert self.state in ("queued", "running"), "the ledger refuses it"
        self.state = "running"
        self.states[device] = json.loads(json.dumps(plain(state), allow_nan=False))
        self.saved.append(state.searched_s)

    def create_trial(self, campaign: str, device: str, recipe: Recipe,
                     parameters: TrialParameters | None = None) -> Trial:
        assert recipe.hash not in {row["recipe"] for row in self.rows}, "asked for twice"
        row = {"id": len(self.rows) + 1, "campaign": campaign, "device": device,
               "number": len(self.rows), "recipe": recipe.hash, "options": {},
               "parameters": json.loads(json.dumps(plain(parameters or TrialParameters()))),
               "state": "running", "values": None, "intervals": None, "constraints": None,
               "reason": None, "message": None, "sha256": None, "evaluations": None,
               "measurement": None, "started_s": 0.0, "finished_s": None}
        created = parse(Trial, {**row, "created": True})
        self.rows.append({**row, "steps": recipe.as_list()})
        return created

    def tell_trial(self, trial: int, state: str, **changes: Any) -> Trial:
        if self.dies_at is not None and len(self.ended_trials) >= self.dies_at:
            raise Killed
        row = self.rows[trial - 1]
        assert row["state"] == "running", f"trial {trial} has ended already"
        row.update(json.loads(json.dumps({"state": state, **changes}, allow_nan=False)))
        # In the form of the ledger.
        row["values"] = {name: float(value) for name, value in (row["values"] or {}).items()}
        self.ended_trials.append((trial, state))
        return parse(Trial, row)

    def trials(self, campaign: str) -> list[Trial]:
        return [parse(Trial, row) for row in self.rows]

    # -- jobs --------------------------------------------------------------------------------

    def submit_job(self, kind: str, pool: str, payload: Mapping[str, Any], *, campaign: str,
                   priority: int, retry: bool = False) -> Job:
        assert pool == (f"device:{DEVICE}" if kind in DEVICE_KINDS else "builder")
        together = kind == "measure" and payload["plan"]["name"].endswith("-together")
        if self.dies_on == ("together" if together else kind):
            raise Killed
        key = json.dumps([kind, pool, payload], sort_keys=True)
        for job in self.jobs:
            if job["key"] == key:
                if retry and job["state"] == "failed":
                    job["state"] = "queued"
                return parse(Job, job)
        job = {"job": len(self.jobs) + 1, "key": key, "kind": kind, "payload": json.loads(key)[2],
               "priority": priority, "state": "queued", "seq": 0, "reason": None, "message": None}
        self.jobs.append(job)
        return parse(Job, job)

    def finished(self, campaign: str, after: int, wait_s: float) -> FinishedJobs:
        queued = [job for job in self.jobs if job["state"] == "queued"]
        assert queued or wait_s == 0, "the search waits for nothing"
        if queued:
            self._work(max(queued, key=lambda job: (job["priority"], -job["job"])))
        ended = sorted((j for j in self.jobs if j["seq"] > after), key=lambda j: j["seq"])
        return parse(FinishedJobs, {"jobs": ended, "seq": ended[-1]["seq"] if ended else after})

    def cancel_queued(self, campaign: str, kinds: Sequence[str]) -> int:
        for job in (gone := [j for j in self.jobs if j["state"] == "queued"
                             and j["kind"] in kinds]):
            self._end(job, state="cancelled")
        return len(gone)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [job["payload"] for job in self.jobs if job["kind"] == kind]

    def _work(self, job: dict[str, Any]) -> None:
        self.now_s += COST_S[job["kind"]]
        found = getattr(self, f"_{job['kind']}")(job["payload"])
        self._end(job, took_s=COST_S[job["kind"]], **found)

    def _end(self, job: dict[str, Any], **changes: Any) -> None:
        job.update(changes, seq=1 + max(j["seq"] for j in self.jobs))

    def _fate(self, name: str) -> Fate:
        return self.script.get(name, Fate())

    def _compress(self, payload: dict[str, Any]) -> dict[str, Any]:
        return self._built(payload, "repaired" if payload.get("repair") else "untrained")

    def _train(self, payload: dict[str, Any]) -> dict[str, Any]:
        return self._built(payload, payload["fidelity"])

    def _scan(self, payload: dict[str, Any]) -> dict[str, Any]:
        name = payload["strategy"]
        found = self.scans.get(name, {"strategy": name, "parameter": "p", "layers": [],
                                      "samples": 8})
        return {"state": "failed", **found} if "reason" in found else {
            "state": "done", "result": found}

    def _built(self, payload: dict[str, Any], fidelity: str) -> dict[str, Any]:
        name = payload["recipe"][0]["strategy"] if payload["recipe"] else "baseline"
        fate = self._fate(name)
        if fate.fails and fate.fails[0] in (fidelity, "any"):
            return {"state": "failed", "reason": fate.fails[1], "message": f"{name} went wrong"}
        sha256 = hashlib.sha256(json.dumps([payload["recipe"], fidelity]).encode()).hexdigest()
        self.files[sha256] = (name, fidelity)
        short = fate.accuracy if fate.short_accuracy is None else fate.short_accuracy
        repaired = fate.accuracy if fate.repaired_accuracy is None else fate.repaired_accuracy
        accuracy = {"short": short, "extended": fate.accuracy + fate.wins,
                    "repaired": repaired}.get(fidelity, fate.accuracy)
        return {"state": "done", "result": {
            "sha256": sha256, "file_bytes": fate.file_bytes, "graph_key": name,
            "report": {"macs": 1000, "parameters": 10, "layers": []},
            "evaluation": None if fidelity == "untrained" else self.judged(accuracy)}}

    def _prepare(self, payload: dict[str, Any]) -> dict[str, Any]:
        name, _ = self.files[payload["model"]["sha256"]]
        why = self._fate(name).unprepared
        if why is not None:
            return {"state": "failed", "reason": "refused", "message": why}
        self.engines.add(self._engine(payload, payload["model"]))
        return {"state": "done", "result": {"prepare_s": 1.0, "reused": False, "kept_bytes": 9}}

    def _engine(self, payload: dict[str, Any], file: dict[str, Any]) -> str:
        return json.dumps([file["sha256"], payload["runtime"], payload["options"]])

    def _lacks(self, payload: dict[str, Any], file: dict[str, Any]) -> bool:
        return (RUNTIMES[payload["runtime"]].prepares
                and self._engine(payload, file) not in self.engines)

    def _measure(self, payload: dict[str, Any]) -> dict[str, Any]:
        if self._lacks(payload, payload["reference"]):
            return {"state": "failed", "reason": "reference", "result": None,
                    "message": f"The reference failed: {NOT_PREPARED}: no engine"}
        together = payload["plan"]["name"].endswith("-together")
        assert all(type(file["size_bytes"]) is int for file in payload["candidates"])
        own_level = payload["quiet_level_s"] is None
        entries = [{"sha256": file["sha256"], "verdict": "failed",
                    "reasons": [f"{NOT_PREPARED}: no engine"]} if self._lacks(payload, file)
                   else self._measured_together(file["sha256"], own_level) if together
                   else self._measured(file["sha256"]) for file in payload["candidates"]]
        if any(self._fate(self.files[f["sha256"]][0]).measured == "job failed"
               for f in payload["candidates"]):
            return {"state": "failed", "reason": "quarantined", "message": "the device is gone"}
        return {"state": "done", "result": {"measurements": entries}}

    def _measured_together(self, sha256: str, own_level: bool) -> dict[str, Any]:
        fate = self._fate(self.files[sha256][0])
        if fate.crashes_together:
            return {"sha256": sha256, "verdict": "failed", "reasons": ["crashed: signal 9"]}
        if fate.busy_together and not own_level:
            fate.busy_together -= 1
            return {"sha256": sha256, "verdict": "invalid", "reasons": ["busy"]}
        ratio = fate.changes or fate.ratio
        return valid(sha256, ratio, ratio * 0.99, ratio * 1.01, 8)

    def _measured(self, sha256: str) -> dict[str, Any]:
        name, fidelity = self.files[sha256]
        fate = self._fate(name)
        if fate.vague and fidelity == "full":
            fate.vague -= 1
            return valid(sha256, 2 * fate.ratio, (1.7 - fate.vague / 10) * fate.ratio,
                         2 * fate.ratio, 5)
        if fate.breaks_trained and fidelity == "full":
            return {"sha256": sha256, "verdict": "failed", "reasons": ["crashed: signal 9"]}
        if fate.busy:
            fate.busy -= 1
            return {"sha256": sha256, "verdict": "invalid", "reasons": ["busy"],
                    "measurement": 6, "rough_ratio": fate.rough_ratio}
        if fate.measured.startswith("parity"):
            return {"sha256": sha256, "verdict": "invalid", "reasons": [fate.measured]}
        if fate.measured != "valid":
            return {"sha256": sha256, "verdict": "failed", "reasons": [fate.measured]}
        return valid(sha256, fate.ratio, fate.ratio * 0.99, fate.ratio * 1.01, 7)

    def _infer(self, payload: dict[str, Any]) -> dict[str, Any]:
        fate = self._fate(self.files[payload["model"]["sha256"]][0])
        if self._lacks(payload, payload["model"]):
            return {"state": "failed", "reason": NOT_PREPARED, "message": "no engine"}
        if fate.infer_fails:
            fate.infer_fails -= 1
            return {"state": "failed", "reason": "crashed", "message": "the device stumbled"}
        digest = hashlib.sha256(json.dumps(payload).encode()).hexdigest()
        return {"state": "done", "result": {
            "outputs": {"sha256": digest, "size_bytes": 9}, "place": self._place(fate)}}

    def _place(self, fate: Fate) -> str:
        return f"fake/onnxruntime/{fate.provider}"

    def _evaluate(self, payload: dict[str, Any]) -> dict[str, Any]:
        if "outputs" in payload:
            fate = self._fate(self.files[payload["sha256"]][0])
            asked = self.jobs[payload["outputs"]["job"] - 1]
            assert asked["payload"]["model"]["sha256"] == payload["sha256"]
            value = fate.accuracy if fate.there is None else fate.there
            return {"state": "done", "result": {
                "evaluation": {**self.judged(value), "place": self._place(fate)}}}
        assert payload["split"] == "test"
        return {"state": "done", "result": {"evaluation": self.judged(0.9)}}


def valid(sha256: str, ratio: float, low: float, high: float, row: int) -> dict[str, Any]:
    return {"sha256": sha256, "verdict": "valid", "reasons": [], "measurement": row,
            "ratio": ratio, "ratio_low": low, "ratio_high": high, "quiet_level_s": LEVEL_S}


def evaluation(accuracy: float) -> dict[str, Any]:
    correct = np.arange(N) < round(accuracy * N)
    return {"metric": "accuracy", "value": float(correct.mean()), "n": N,
            "scores": base64.b64encode(np.packbits(correct).tobytes()).decode(),
            "encoding": "bits"}


class Scripted:
    """A sampling that proposes one recipe per name, in order, and records the end of each trial."""

    def __init__(self, *names: str) -> None:
        self.names, self.asked = names, 0
        self.startup_trials = STARTUP_TRIALS
        self.ended_trials: dict[int, tuple[str, dict[str, float]]] = {}
        self.space = Space.of(campaign(), layers_of(network()), frozenset({"float32", "int8"}))

    def ask(self, expected_gain: Callable[[Recipe], float]) -> Proposal:
        name = self.names[min(self.asked, len(self.names) - 1)]
        self.asked += 1
        recipe = Recipe((Step.of(name, "model", {}),))
        assert math.isfinite(expected_gain(recipe))
        return Proposal(self.asked - 1, recipe, TrialParameters())

    def use_scans(self, scans: Scans) -> None:
        self.space = replace(self.space, scans=scans)

    def add_parent(self, number: int, values: Mapping[str, float]) -> None:
        assert number not in self.ended_trials and "quality_drop" in values

    def tell(self, number: int, state: str, values: Mapping[str, float] | None,
             constraints: Mapping[str, float]) -> None:
        assert number not in self.ended_trials, f"{number} has ended already"
        self.ended_trials[number] = (state, dict(constraints))

    def restore(self, rows: Sequence[Trial]) -> dict[int, int]:
        self.asked = len(rows)
        self.ended_trials = {i: (r.state, {}) for i, r in enumerate(rows) if r.state != "running"}
        return {row.id: index for index, row in enumerate(rows)}


def campaign(metric: str = "accuracy", **changes: Any) -> Campaign:
    """With the objectives of a task with this metric. Nothing is repaired, unless ``changes`` say
    so: a candidate has a quality after short training."""
    asked = from_document({
        "name": "c", "task": "t", "devices": [{"profile": DEVICE}],
        "constraints": {"quality_drop": 0.02}, "budget": {"candidates": 12, "wall_minutes": 60},
        "search": {"repair": False}, **changes})
    return replace(asked, objectives=resolved(asked.objectives, quality_of_metric(metric)))


TARGET = Target(opset=13, ir_version=7, number_formats=frozenset({"float32"}))


def requests_of(spec: Campaign) -> Requests:
    return Requests(spec, TARGET, spec.executions[0])


def search_of(client: Any, sampling: Any, spec: Campaign, threads: int = 1,
              notes: Sequence[str] = (), on_device: OnDevice | None = None,
              extends: bool = False, task: TaskFacts | None = None,
              states_epochs: bool = True) -> SearchLoop:
    """Created as in ``searcher.search.process``."""
    client.set_state(spec.name, "running")
    of_device = DeviceSearch(requests_of(spec), DEVICE, sampling.space, on_device, notes)
    return SearchLoop(client, spec, of_device, sampling, threads, now_s=lambda: client.now_s,
                      extends=extends, task=task, states_epochs=states_epochs)
