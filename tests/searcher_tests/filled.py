"""The folder of a finished campaign, written without a search: ledger and files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from searcher.artifacts.store import place_artifact
from searcher.documents import plain
from searcher.ledger.rows import MeasurementRow
from searcher.ledger.store import Store
from searcher.ledger.tables import (
    builds,
    campaigns,
    evaluations,
    jobs,
    measurements,
    search_state,
    trials,
)
from searcher.ledger.tables.evaluations import Judged
from searcher.ledger.tables.search_state import (
    BaselineState,
    DeviceQuality,
    JointEntry,
    SearchState,
)
from searcher.spec.campaign import from_document
from searcher.spec.measurement_plan import PLANS
from searcher.spec.recipe import Recipe, Step
from searcher.spec.scan_result import ScanResult
from searcher.statistics.latency import summarise
from searcher.statistics.score_codec import pack
from searcher.tasks.metrics import registry as metrics

TASK = "tests.tasks_for_tests:tiny"
SPEC = from_document({"name": "digits", "task": TASK,
                      "constraints": {"quality_drop": 0.02},
                      "budget": {"candidates": 9, "wall_minutes": 2}}).as_dict()
N = 200
LEVEL_S = 1e-3
DEVICE = "local_cpu"
BASELINE = {"accuracy": 0.99, "latency_s": LEVEL_S, "file_bytes": 4000}
PRUNE = Step.of("channel_pruning", "convolutions", {"keep_ratio": 0.5, "round_to": 4})
TUNE = Step.of("finetune", "model", {"learning_rate": 0.01})


def recipe(number: int) -> Recipe:
    return Recipe((PRUNE, Step.of("clustering", "model", {"bits": 2 + number}), TUNE))


def bits(share: float) -> np.ndarray:
    return np.arange(N) < round(share * N)


class Folder:
    """Writes the records that a coordinator would write; ``close`` it before reading."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store(directory / "ledger.db")
        self.db = self.store.db
        self.db.execute(
            "INSERT OR IGNORE INTO devices VALUES "
            "('local_cpu', 'local_cpu', '{}', '{}', 1, 'active', 1, 1, 0, NULL)")
        measurements.put_environment(self.db, "e" * 64, '{"cpu":"fake"}')

    def close(self) -> None:
        self.store.close()

    def campaign(self, name: str = "digits", baseline: bool = True, state: str = "done") -> None:
        spec = {**SPEC, "name": name}
        campaigns.create(self.db, name, spec, 100.0)
        campaigns.set_state(self.db, name, "running", None, 110.0)
        self.job = jobs.create(self.db, f"key-{name}", "measure", "device:local_cpu", name, {}, 0,
                               1.0)
        if baseline:
            sha256 = self.file(b"baseline", 0.99, 0.985)
            low, high = 0.96, 0.995
            search_state.put(self.db, name, DEVICE, SearchState(BaselineState(
                sha256, 4000, LEVEL_S,
                {**BASELINE, "quality_drop": 0.0, "latency_ratio": 1.0, "macs": 1000},
                {"accuracy": [low, high], "latency_s": [0.99 * LEVEL_S, 1.01 * LEVEL_S]}),
                searched_s=30.0), 120.0)
        if state != "running":
            campaigns.set_state(self.db, name, state, None, 200.0)

    def file(self, content: bytes, validation: float, test: float | None = None) -> str:
        """Stores an artifact with its evaluations; returns its sha256."""
        sha256 = place_artifact(self.directory / "artifacts", content).name
        builds.put_artifact(self.db, sha256, len(content), 1.0)
        for split, share in (("validation", validation), ("test", test)):
            if share is not None:
                correct = bits(share)
                self.evaluation(sha256, split, "host", correct)
        return sha256

    def evaluation(self, sha256: str, split: str, place: str, scores: np.ndarray,
                   metric: str = "accuracy") -> int:
        """Stores an evaluation of the campaigns' task; returns its id."""
        found = metrics.named(metric)
        return evaluations.put(
            self.db, Judged(sha256, TASK, split, place, metric), found.value(scores), len(scores),
            found.interval(scores), *pack(scores), self.job, 1.0).id

    def trial(self, number: int, state: str = "complete", *, campaign: str = "digits",
              accuracy: float = 0.985, ratio: float = 0.5, file_bytes: int = 1000,
              test: float | None = None, measured: bool = True, broken: bool = False,
              reason: str | None = None, message: str | None = None,
              values: bool = True, repaired: bool = False, made: Recipe | None = None) -> None:
        """A trial with its build, files and measurement, of the recipe ``made`` or by default
        ``recipe``; the file of a ``repaired`` one was not trained."""
        made = made or recipe(number)
        builds.put_recipe(self.db, made.hash, made.as_list())
        trial = trials.create(self.db, campaign, DEVICE, made.hash, {}, {}, 2.0)
        if state == "running":
            return
        sha256 = self.file(f"{campaign} {number}".encode(), accuracy, test)
        self._build(made, sha256, file_bytes, repaired)
        measurement = self._measure(sha256 if measured else self.file(b"graph", 0.1), ratio)
        drop = 0.99 - accuracy
        figures = {"accuracy": accuracy, "quality_drop": drop, "latency_ratio": ratio,
                   "latency_s": ratio * LEVEL_S, "file_bytes": file_bytes, "macs": 500}
        trials.tell(self.db, trial, state, {
            "values": figures if values else {}, "sha256": sha256, "reason": reason,
            "message": message,
            "intervals": {"accuracy": [accuracy - 0.01, accuracy + 0.01],
                          "quality_drop": [drop - 0.01, drop + 0.01],
                          "latency_s": [ratio * LEVEL_S * 0.99, ratio * LEVEL_S * 1.01]},
            "constraints": {"quality_drop": 0.01 if broken else -0.01},
            "measurement": measurement}, 9.0)

    def together(self, ratios: dict[int, float], name: str = "digits") -> None:
        """Stores a joint measurement of trials, by id, at the end of the campaign."""
        known = search_state.get(self.db, name, DEVICE)
        assert known is not None
        found = {}
        for trial, ratio in ratios.items():
            told = trials.get(self.db, trial)
            assert told is not None and told.sha256 is not None and told.values is not None
            latency = {"latency_ratio": ratio, "latency_s": ratio * LEVEL_S}
            found[trial] = JointEntry(
                told.sha256, {**told.values, **latency},
                {**(told.intervals or {}), "latency_s": [0.99 * ratio * LEVEL_S,
                                                         1.01 * ratio * LEVEL_S]},
                {}, self._measure(told.sha256, ratio))
        search_state.put(self.db, name, DEVICE, replace(known, joint=found), 190.0)

    def scans(self, *results: ScanResult, name: str = "digits") -> None:
        """Stores the scans of a campaign's search."""
        known = search_state.get(self.db, name, DEVICE)
        assert known is not None
        found = {}
        for result in results:
            job = jobs.create(self.db, f"key-{name}-{result.strategy}", "scan", "builder", name,
                              {"strategy": result.strategy}, 0, 1.0)
            jobs.finish(self.db, job, "done", 125.0, result=plain(result))
            found[result.strategy] = job
        search_state.put(self.db, name, DEVICE, replace(known, scans=found), 130.0)

    def on_device(self, place: str, baseline: float, accuracies: dict[int, float],
                  name: str = "digits") -> None:
        """Stores validation accuracies computed on the device, by trial id."""
        known = search_state.get(self.db, name, DEVICE)
        assert known is not None
        joint = {}
        for trial, accuracy in accuracies.items():
            sha256 = self._evaluated(self._sha256(trial), place, accuracy)
            joint[trial] = JointEntry(sha256, {"accuracy": accuracy},
                                      {"accuracy": [accuracy - 0.01, accuracy + 0.01]}, {})
        self._evaluated(known.baseline.sha256, place, baseline)
        there = DeviceQuality(place, "it computes in float16", {}, {"accuracy": baseline},
                               {"accuracy": [baseline - 0.01, baseline + 0.01]})
        search_state.put(self.db, name, DEVICE, replace(
            known, joint=joint, baseline=replace(known.baseline, on_device=there)), 190.0)

    def _sha256(self, trial: int) -> str:
        row = trials.get(self.db, trial)
        assert row is not None and row.sha256 is not None
        return row.sha256

    def _evaluated(self, sha256: str, place: str, accuracy: float) -> str:
        self.evaluation(sha256, "validation", place, bits(accuracy))
        return sha256

    def _build(self, made: Recipe, sha256: str, file_bytes: int, repaired: bool) -> None:
        fidelity = "repaired" if repaired else "full"
        if repaired:
            made = Recipe(tuple(step for step in made.steps if step is not TUNE))
            builds.put_recipe(self.db, made.hash, made.as_list())
        layer: dict[str, Any] = {
            "name": "fc1", "op": "Gemm", "macs": 500, "parameters": 500, "weight_bytes": 2000,
            "activation_bytes": 40, "distinct_values": 4, "nonzero_share": 0.25}
        builds.put(self.db, f"build-{sha256}", "task", made.hash, 0, fidelity, sha256, file_bytes,
                   "g" * 32, {"parameters": 500, "macs": 500, "layers": [layer]}, self.job, 1.0)

    def _measure(self, sha256: str, ratio: float) -> int:
        drift = np.linspace(1.0, 1.03, 400) * LEVEL_S
        blocks = {"before_s": drift, "after_s": drift, "candidate_s": drift * ratio}
        calls = [round(float(v) * ratio * 1e9) for v in drift]
        found = summarise(blocks, calls, [1] * len(calls), LEVEL_S)
        return measurements.put(self.db, MeasurementRow(
            0, sha256, "r" * 64, DEVICE, "onnxruntime", {}, "e" * 64, PLANS["quick"]._asdict(), 1,
            self.job, "valid", ratio=found.ratio, ratio_low=found.ratio_low,
            ratio_high=found.ratio_high, quiet_level_s=found.quiet_level_s,
            latency_s=found.latency_s, latency_low_s=found.latency_low_s,
            latency_high_s=found.latency_high_s, n=found.n, quiet_share=found.quiet_share,
            load_s=0.01, first_s=0.002, provider="CPUExecutionProvider",
            summary=found.as_document(), created_s=5.0))


def finished(directory: Path) -> Path:
    """Six trials: 0 and 1 on the front, 2 dominated, 3 pruned, 4 failed, 5 over a constraint."""
    folder = Folder(directory)
    folder.campaign()
    folder.trial(0, test=0.98)
    folder.trial(1, accuracy=0.98, ratio=0.25, file_bytes=500, test=0.97)
    folder.trial(2, accuracy=0.975, ratio=0.6, file_bytes=1500)
    folder.trial(3, "pruned", measured=False, reason="cannot reach the front: it is too slow")
    folder.trial(4, "failed", values=False, reason="nan_loss")
    folder.trial(5, accuracy=0.96, ratio=0.1, file_bytes=100, broken=True)
    folder.close()
    return directory
