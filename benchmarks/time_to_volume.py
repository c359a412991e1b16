"""How soon a campaign reaches the final hypervolume of plain Optuna, where every trial is trained.

    python -m benchmarks.time_to_volume [--networks lenet5 residual] [--seeds 0 1 2] [--dir DIR]

For each network and seed, the campaign of ``benchmarks.models`` and ``benchmarks.plain_optuna``
(TPE, ``--minutes``) run alone. Every file that was on the campaign's front at any time and the
plain front are measured in one interleaved pass, with their quality on test. The median of the
seeds must be at most a fifth of the plain search's time. What is finished in DIR is kept.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import commands
from benchmarks.checks import Check, against, conclude
from benchmarks.fronts import Figures, volume_of
from benchmarks.model_rows import ROWS, Row
from benchmarks.models import measured_ratios, qualities, run_campaign, subprocess_text
from benchmarks.running_front import entries_of, ever_on_front
from searcher.cli.options import print_table
from searcher.pareto.front import front_indices
from searcher.results.view import Reading

MOST_SHARE = 0.2


def reached_at_s(timed: Sequence[tuple[float, Figures]], baseline: Figures, volume: float,
                 reference_drop: float) -> float | None:
    """The first time at which the files so far dominate ``volume``; None when never."""
    so_far: list[Figures] = []
    for at_s, figures in sorted(timed, key=lambda pair: pair[0]):
        so_far.append(figures)
        if volume_of(so_far, baseline, reference_drop)[0] >= volume:
            return at_s
    return None


def plain_points(row: Row, minutes: float, seed: int, campaign: Path, out: Path
                 ) -> dict[str, Path]:
    """The front of plain Optuna by its own figures, within the row's constraint."""
    if not (out / "done.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        if row.campaign_file is None:
            chosen = ["--network", row.network]
        else:
            chosen = ["--task", commands.campaign_task(Path(row.campaign_file)), "--builds",
                      str(campaign / "builds"), "--baseline-seed", str(seed)]
        said = subprocess_text([
            sys.executable, "-m", "benchmarks.plain_optuna", "--minutes", str(minutes), "--out",
            str(out), "--seed", str(seed), "--drop", str(row.drop), *chosen])
        (out / "done.json").write_text(json.dumps({"said": said}))
    found: Mapping[str, Any] = json.loads((out / "points.json").read_text())
    allowed = [p for p in found["points"]
               if p["accuracy"] >= found["baseline"]["accuracy"] - row.drop - 1e-9]
    indices = front_indices([(-p["accuracy"], p["latency_s"], p["file_bytes"]) for p in allowed])
    return {f"plain {allowed[i]['file']}": out / allowed[i]["file"] for i in indices}


def share_of_time(row: Row, folder: Path, seed: int, minutes: float, plan: str
                  ) -> tuple[float | None, tuple[str, ...]]:
    """(our time to the plain front's hypervolume as a share of the plain search's, table row)."""
    front = run_campaign(row, folder / "campaign", seed)
    plain = plain_points(row, minutes, seed, folder / "campaign", folder / "plain")
    reading, baseline = Reading(folder / "campaign"), front.baseline.artifact
    entries = ever_on_front(entries_of(folder / "campaign", front.campaign))
    ours = {str(e.number): (e.finished_s, reading.artifact(e.sha256)) for e in entries}
    kept = {number: file for number, (_, file) in ours.items() if file.is_file()}
    if len(kept) < len(ours):
        print(f"{folder}: {len(ours) - len(kept)} files of the running front were dropped; they "
              "do not count")
    files = {**kept, **plain}
    ratios = measured_ratios(files, baseline, folder, plan)
    tested = qualities(row, [baseline, *files.values()], baseline)
    base = Figures("baseline", tested[baseline].value, baseline.stat().st_size, 1.0)
    figures = {name: Figures(name, tested[file].value, file.stat().st_size, ratios[name])
               for name, file in files.items() if name in ratios}
    wanted, _ = volume_of([figures[n] for n in plain if n in figures], base, row.reference_drop)
    at_s = reached_at_s([(ours[n][0], figures[n]) for n in kept if n in figures], base, wanted,
                        row.reference_drop)
    final, _ = volume_of([figures[n] for n in kept if n in figures], base, row.reference_drop)
    share = None if at_s is None else at_s / (minutes * 60)
    return share, (row.name, str(seed), f"{wanted:.5f}", f"{final:.5f}",
                   "never" if at_s is None else f"{at_s:.0f} s",
                   "-" if share is None else f"{share:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=("lenet5", "residual"),
                        default=["lenet5", "residual"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=8.0, help="of plain Optuna")
    parser.add_argument("--dir", type=Path, default=Path(".cache/benchmarks/time_to_volume"))
    parser.add_argument("--plan", default="quick", help="plan of the interleaved pass")
    arguments = parser.parse_args()
    lines: list[tuple[str, ...]] = []
    checks: list[Check] = []
    for name in arguments.networks:
        row, shares = ROWS[name], []
        for seed in arguments.seeds:
            share, line = share_of_time(row, arguments.dir / name / f"seed-{seed}", seed,
                                        arguments.minutes, arguments.plan)
            shares.append(float("inf") if share is None else share)
            lines.append(line)
        checks.append(against(f"{name}: our share of plain Optuna's time, median",
                              statistics.median(shares), "<=", MOST_SHARE))
    print_table("time to the final hypervolume of plain Optuna",
                ("network", "seed", "its hypervolume", "ours at the end", "reached after",
                 "share of its time"), lines)
    return conclude(checks)


if __name__ == "__main__":
    sys.exit(main())
