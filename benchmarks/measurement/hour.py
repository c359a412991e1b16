"""Repeatability over an hour: five models, each measured ten times, and timed by plain loops.

    every minutes / rounds:  plain loop of each, LOOP_S | one job: all five against the reference

The spread is the standard deviation divided by the mean; the range is printed beside it.
"""

import argparse
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from agents.protocol import ArtifactRef, MeasurePayload
from benchmarks import commands
from benchmarks.measurement.models import opened, timed
from searcher.artifacts.store import place_artifact
from searcher.benchmark.one_file import job_runner
from searcher.benchmark.two_files import RunJob
from searcher.cli.options import print_table
from searcher.jobs.measure import MeasureRequest
from searcher.local.process_tree import tree
from searcher.spec.measurement_plan import PLANS
from searcher.spec.runtime_options import LOCAL_DEVICE
from searcher.statistics.measured import Summary

TASK = "lenet5-mnist"
CONVOLUTIONS, MATRICES = "convolutions", "fully_connected"
RECIPES: dict[str, list[dict[str, Any]]] = {
    "fp32": [],
    "int8": [{"strategy": "int8"}],
    "thin": [{"strategy": "channel_pruning", "layers": group, "keep_ratio": 0.4}
             for group in (CONVOLUTIONS, MATRICES)],
    "low rank": [{"strategy": "svd", "layers": MATRICES, "rank_ratio": 0.1}],
    "coded": [{"strategy": "clustering", "layers": group, "bits": 4}
              for group in (CONVOLUTIONS, MATRICES)],
}
LOOP_S = 2.0
ATTEMPTS = 5
"""Most attempts of a round whose measurements are busy; a search repeats them likewise."""
LATENCY_BOUND, RATIO_BOUND = 0.02, 0.01

Figures = dict[str, list[float]]


def run(arguments: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        folder = Path(scratch)
        files = {name: built(name, steps, folder) for name, steps in RECIPES.items()}
        plain: Figures = {name: [] for name in files}
        latencies: Figures = {name: [] for name in files}
        ratios: Figures = {name: [] for name in files}
        with tree(folder / "data", builders=0, agent=True) as grown:
            bench = Bench(files, folder / "data", job_runner(grown.client, LOCAL_DEVICE))
            for place in range(arguments.rounds):
                due = time.monotonic() + 60 * arguments.minutes / arguments.rounds
                for name, path in files.items():
                    plain[name].append(median(timed(opened(path), LOOP_S)))
                for name, summary in bench.round().items():
                    latencies[name].append(summary.latency_s)
                    ratios[name].append(summary.ratio)
                print(f"round {place + 1} of {arguments.rounds}", flush=True)
                if place + 1 < arguments.rounds:
                    time.sleep(max(due - time.monotonic(), 0.0))
    return _report(plain, latencies, ratios, bench, arguments.rounds)


def built(name: str, steps: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Builds the untrained file of a recipe."""
    output = folder / "built" / name.replace(" ", "_")
    commands.build(steps, TASK, folder / "builds", output, "untrained")
    return output / "model.onnx"


class Bench:
    """``device_s`` is the device time of all jobs, ``busy`` the number of busy results."""

    def __init__(self, files: Mapping[str, Path], folder: Path, run_job: RunJob) -> None:
        self._files = {}
        for name, path in files.items():
            content = path.read_bytes()
            self._files[name] = ArtifactRef(
                place_artifact(folder / "artifacts", content).name, len(content))
        self._run_job = run_job
        self._level_s: float | None = None
        self.device_s, self.busy = 0.0, 0

    def round(self) -> dict[str, Summary]:
        """Measures all models once, with the known quiet level; model -> valid measurement."""
        found: dict[str, Summary] = {}
        plan = PLANS["standard"]._replace(memory=False)
        for _ in range(ATTEMPTS):
            missing = {name: file for name, file in self._files.items() if name not in found}
            if not missing:
                break
            job = self._run_job(MeasureRequest(MeasurePayload(
                self._files["fp32"], list(missing.values()), "onnxruntime",
                {"threads": 1, "graph_level": "all", "batch": 1}, plan,
                quiet_level_s=self._level_s, attempt=secrets.randbelow(2**31))))
            if job.result is None:
                raise SystemExit(f"not measured: {job.why}")
            self._level_s = job.result.quiet_level_s
            self.device_s += job.result.device_s or 0.0
            measured = {entry.sha256: entry.summary for entry in job.result.measurements
                        if entry.verdict == "valid"}
            valid = {name: summary for name, file in missing.items()
                     if (summary := measured.get(file.sha256)) is not None}
            self.busy += len(missing) - len(valid)
            found |= valid
        return found


def _report(plain: Figures, latencies: Figures, ratios: Figures, bench: Bench,
            rounds: int) -> bool:
    rows, met = [], True
    for name in plain:
        latency, ratio = _spread(latencies[name]), _spread(ratios[name])
        met = met and len(ratios[name]) == rounds and (
            latency is not None and latency < LATENCY_BOUND) and (
            ratio is not None and ratio < RATIO_BOUND)
        rows.append((name, *(_text(values) for values in
                             (plain[name], latencies[name], ratios[name])),
                     f"{len(ratios[name])} of {rounds}"))
    print_table("spread (standard deviation, range) of the measurements",
                ("model", "plain loops' p50", "latency_s", "ratio to the reference", "measured"),
                rows)
    print(f"{bench.device_s:.0f} s on the device, {bench.busy} busy results measured again")
    return met


def _spread(values: Sequence[float]) -> float | None:
    return stdev(values) / mean(values) if len(values) > 1 else None


def _text(values: Sequence[float]) -> str:
    spread = _spread(values)
    if spread is None:
        return "insufficient"
    return (f"{mean(values):.4g}: {spread:.2%} "
            f"({min(values) / mean(values) - 1:+.1%}..{max(values) / mean(values) - 1:+.1%})")
