"""The agent's timing compared with a plain loop, block by block in one process and session."""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from agents.runtimes.onnxruntime_runner import OnnxRuntime
from agents.timing.calls import repeats_per_sample, tick_ns, time_block
from benchmarks.measurement.models import chain
from searcher.cli.options import print_table

LAYERS = (1, 10, 120)
BLOCK_S, TRIAL_S = 0.004, 2.0
BOUND = 0.01


def run(arguments: argparse.Namespace) -> bool:
    rows, met = [], True
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        for layers in LAYERS:
            path = chain(Path(scratch) / f"{layers}.onnx", layers)
            trials = [_trial(path) for _ in range(arguments.trials)]
            ratios = [ratio for ratio, _ in trials]
            off = max(abs(ratio - 1) for ratio in ratios)
            over = sum(abs(ratio - 1) > BOUND for ratio in ratios)
            met = met and abs(median(ratios) - 1) <= BOUND and over <= 0.05 * len(ratios)
            rows.append((f"{layers} layers", f"{median(bare for _, bare in trials) * 1e6:.1f} us",
                         f"{median(ratios):.4f}", f"{off:.2%}", f"{over} of {len(ratios)}"))
    print_table(f"p50 of the agent's blocks over that of a bare loop, {TRIAL_S:g} s a trial",
                ("model", "bare p50", "ratio", "farthest from 1", "beyond 1 %"), rows)
    return met


def _trial(path: Path) -> tuple[float, float]:
    """(median ratio of the agent's block to the adjacent block of the loop, p50 of the loop in
    seconds). The order of the two alternates."""
    runtime = OnnxRuntime()
    run_once = runtime.open(str(path), {"threads": 1, "graph_level": "all", "batch": 1}, 0).run
    first = median(time_block(run_once, int(0.05e9), runtime.clock_ns))
    repeats = repeats_per_sample(first, tick_ns(runtime.clock_ns))

    def agent_block() -> float:
        return median(time_block(run_once, int(BLOCK_S * 1e9), runtime.clock_ns, repeats)) * 1e-9

    ratios: list[float] = []
    plain: list[float] = []
    end = time.perf_counter() + TRIAL_S
    while time.perf_counter() < end:
        if len(ratios) % 2:
            agent, bare = agent_block(), _bare(run_once)
        else:
            bare, agent = _bare(run_once), agent_block()
        ratios.append(agent / bare)
        plain.append(bare)
    return median(ratios), median(plain)


def _bare(call: Any) -> float:
    found, end = [], time.perf_counter() + BLOCK_S
    while time.perf_counter() < end:
        before = time.perf_counter()
        call()
        found.append(time.perf_counter() - before)
    return median(found)
