"""Error rates of ``measure --against`` and coverage of its intervals.

It must distinguish two files that differ by 3 %, and find no difference between a file and its
copy. Its intervals are compared with a long interleaved reference.

    trial, piece, trial, piece ... in random order of the pairs: a trial is one --against; a piece
    of the reference of the same pair follows it (benchmarks/measurement/reference.py)
"""

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agents.protocol import ArtifactRef
from benchmarks.measurement.models import chain, opened, timed
from benchmarks.measurement.reference import Reference, piece, reference
from searcher.artifacts.store import place_artifact
from searcher.benchmark.one_file import job_runner
from searcher.benchmark.two_files import FileComparison, compare_files
from searcher.cli.options import print_table
from searcher.local.process_tree import tree
from searcher.spec.runtime_options import LOCAL_DEVICE

LAYERS, WANTED_S = 120, 1e-3
RATIO, NEAR = 1.03, 0.002
FIRST_EXTRA = 0.035
"""First guess of the additional layers, as a fraction: above 3 %, because a call has fixed costs.
"""
PROBES, CHOICES = 24, 5
FEWEST_PIECES = 4
BUDGET_S = 10.0


@dataclass(frozen=True)
class Pair:
    """Two files, the ``right`` verdicts, ``found`` comparisons and ``pieces`` of the reference."""

    name: str
    first: Path
    second: Path
    right: tuple[str, ...]
    found: list[FileComparison] = field(default_factory=list)
    pieces: list[float] = field(default_factory=list)


def run(arguments: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        folder = Path(scratch)
        pairs = _pairs(folder, min(PROBES, max(2 * arguments.trials, FEWEST_PIECES)))
        order = [pair for pair in pairs for _ in range(arguments.trials)]
        random.Random(arguments.seed).shuffle(order)
        with tree(folder / "data", builders=0, agent=True) as grown:
            run_job = job_runner(grown.client, LOCAL_DEVICE)
            for pair in order:
                files = [_file(folder / "data", path) for path in (pair.first, pair.second)]
                pair.found.append(compare_files(
                    pair.first, pair.second, (files[0], files[1]), run_job, BUDGET_S))
                pair.pieces.append(piece(pair.first, pair.second, len(pair.pieces)))
        for pair in pairs:
            pair.pieces.extend(piece(pair.first, pair.second, number)
                               for number in range(len(pair.pieces), FEWEST_PIECES))
    return _report(pairs)


def _pairs(folder: Path, probes: int) -> list[Pair]:
    base = chain(folder / "base.onnx", LAYERS)
    each_s = sorted(timed(opened(base), 1.0))[0] / LAYERS
    layers = round(WANTED_S / each_s)
    extra = round(FIRST_EXTRA * layers)
    for _ in range(CHOICES):
        base = chain(folder / "base.onnx", layers)
        longer = chain(folder / "longer.onnx", layers + extra)
        probed = reference([piece(longer, base, number) for number in range(probes)])
        print(f"{layers} layers, and {extra} more: {_text(probed)}", flush=True)
        if abs(probed.ratio - RATIO) <= NEAR:
            break
        # The number of additional layers is fixed: more layers make it a smaller fraction.
        layers = round(layers * min(max((probed.ratio - 1) / (RATIO - 1), 0.8), 1.25))
    copy = folder / "copy.onnx"
    copy.write_bytes(base.read_bytes() + _unread_field())
    return [Pair("3 % more", longer, base, ("slower",)),
            Pair("a copy", copy, base, ("equal", "undecided"))]


def _text(found: Reference) -> str:
    return f"{found.ratio:.4f} +- {found.error:.4f} ({found.n} pieces)"


def _unread_field() -> bytes:
    """``producer_version`` of a ModelProto, which changes the file but not the graph."""
    return bytes([3 << 3 | 2, 4]) + b"copy"


def _file(folder: Path, path: Path) -> ArtifactRef:
    content = path.read_bytes()
    return ArtifactRef(place_artifact(folder / "artifacts", content).name, len(content))


def _report(pairs: Sequence[Pair]) -> bool:
    rows, met = [], True
    for pair in pairs:
        long, n = reference(pair.pieces), len(pair.found)
        right = sum(one.verdict in pair.right for one in pair.found)
        held = sum(one.interval is not None
                   and one.interval[0] <= long.ratio <= one.interval[1]
                   for one in pair.found)
        used = sorted(one.device_s for one in pair.found)
        verdicts = {word: sum(one.verdict == word for one in pair.found)
                    for word in ("slower", "faster", "equal", "undecided")}
        least = 0.99 if pair.right == ("slower",) else 0.97
        met = met and right >= least * n and held >= 0.93 * n and used[-1] <= BUDGET_S
        ratios = sorted(one.ratio for one in pair.found if one.ratio)
        rows.append((pair.name, _text(long), f"{right} of {n}", f"{held} of {n}",
                     f"{ratios[0]:.4f}..{ratios[-1]:.4f}" if ratios else "none",
                     f"{used[n // 2]:.1f} ({used[-1]:.1f})",
                     ", ".join(f"{count} {word}" for word, count in verdicts.items() if count)))
    print_table(
        f"measure --against, at most {BUDGET_S:g} s, a piece of the reference after each",
        ("pair", "reference", "correct", "interval contains it", "ratios",
         "device s, median (most)", "verdicts"), rows)
    return met
