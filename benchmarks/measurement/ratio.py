"""Whether ``measure --against`` tells two files apart that differ by three percent, and finds no
difference between a file and its copy; its intervals against a long interleaved reference.

    reference: single calls in turn, REFERENCE_S | trials: --against, one after another
"""

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measurement.models import chain, long_ratio, opened, timed
from searcher.against import against
from searcher.artifacts import place_artifact
from searcher.cli.options import print_table
from searcher.measuring import job_runner
from searcher.running import LOCAL_DEVICE, tree

LAYERS, WANTED_S = 120, 1e-3
RATIO, NEAR = 1.03, 0.003
REFERENCE_S, PROBE_S = 60.0, 8.0
BUDGET_S = 10.0


@dataclass(frozen=True)
class Pair:
    """``reference``: the first file's time over the second's, by the long loop."""

    name: str
    first: Path
    second: Path
    reference: float
    right: tuple[str, ...]


def run(arguments: argparse.Namespace) -> bool:
    seconds = min(REFERENCE_S, 0.6 * arguments.trials + 5)
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        folder = Path(scratch)
        pairs = _pairs(folder, seconds)
        order = [pair for pair in pairs for _ in range(arguments.trials)]
        random.Random(arguments.seed).shuffle(order)
        found: dict[str, list[dict[str, Any]]] = {pair.name: [] for pair in pairs}
        with tree(folder / "data", builders=0, agent=True) as grown:
            run_job = job_runner(grown.client, LOCAL_DEVICE)
            for pair in order:
                files = [_file(folder / "data", path) for path in (pair.first, pair.second)]
                found[pair.name].append(against(
                    pair.first, pair.second, (files[0], files[1]), run_job, BUDGET_S))
        return _report(pairs, found, seconds)


def _pairs(folder: Path, seconds: float) -> list[Pair]:
    base = chain(folder / "base.onnx", LAYERS)
    each_s = sorted(timed(opened(base), 1.0))[0] / LAYERS
    layers = round(WANTED_S / each_s)
    base = chain(folder / "base.onnx", layers)
    extra = round(0.03 * layers)
    longer = chain(folder / "longer.onnx", layers + extra)
    for _ in range(4):
        probed = long_ratio(longer, base, min(PROBE_S, seconds))
        change = round((RATIO - probed) * layers)
        if abs(probed - RATIO) <= NEAR or change == 0:
            break
        extra += change
        longer = chain(folder / "longer.onnx", layers + extra)
    copy = folder / "copy.onnx"
    copy.write_bytes(base.read_bytes() + _unread_field())
    print(f"{layers} layers, and {extra} more")
    return [Pair("3 % more", longer, base, long_ratio(longer, base, seconds), ("slower",)),
            Pair("a copy", copy, base, long_ratio(copy, base, seconds), ("equal", "undecided"))]


def _unread_field() -> bytes:
    """``producer_version`` of a ModelProto: another file, but the same graph."""
    return bytes([3 << 3 | 2, 4]) + b"copy"


def _file(folder: Path, path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"sha256": place_artifact(folder / "artifacts", content).name,
            "size_bytes": len(content)}


def _report(pairs: Sequence[Pair], found: dict[str, list[dict[str, Any]]], seconds: float) -> bool:
    rows, met = [], True
    for pair in pairs:
        documents = found[pair.name]
        n = len(documents)
        right = sum(one["verdict"] in pair.right for one in documents)
        held = sum(one["interval"] is not None
                   and one["interval"][0] <= pair.reference <= one["interval"][1]
                   for one in documents)
        used = sorted(one["device_s"] for one in documents)
        said = {word: sum(one["verdict"] == word for one in documents)
                for word in ("slower", "faster", "equal", "undecided")}
        least = 0.99 if pair.right == ("slower",) else 0.97
        met = met and right >= least * n and held >= 0.93 * n
        ratios = sorted(one["ratio"] for one in documents if one["ratio"])
        rows.append((pair.name, f"{pair.reference:.4f}", f"{right} of {n}", f"{held} of {n}",
                     f"{ratios[0]:.4f}..{ratios[-1]:.4f}" if ratios else "none",
                     f"{used[n // 2]:.1f} ({used[-1]:.1f})",
                     ", ".join(f"{count} {word}" for word, count in said.items() if count)))
    print_table(
        f"measure --against, at most {BUDGET_S:g} s; the reference took {seconds:.0f} s",
        ("pair", "reference", "right", "interval holds it", "ratios", "device s, median (most)",
         "said"), rows)
    return met
