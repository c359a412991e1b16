"""Campaigns on five networks beside the plain script with the same time on the same cores.

    python -m benchmarks.models [--rows residual vgg ...] [--dir DIR]

Each row (``benchmarks.model_rows``) runs the campaign, then ``benchmarks.plain_script`` for as many
minutes, each alone. Finally all points of both fronts and the baseline are measured in one
interleaved pass, and their quality on the test split is computed again by an independent script.
What is finished in DIR is not run again; a phase that was interrupted starts from its beginning.
Exit code 1 when a check fails.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import commands
from benchmarks.checks import Check, against, conclude, holds
from benchmarks.fronts import Figures, best, volume_of
from benchmarks.interleaved import measure_together
from benchmarks.model_rows import ROWS, Goal, Row
from benchmarks.recompute_models import Quality
from benchmarks.running_front import wasted_share
from searcher.cli.options import print_table
from searcher.documents import parse
from searcher.pareto.front import front_indices
from searcher.results.formatting import bytes_text
from searcher.results.front import Front
from searcher.results.view import Reading

OURS, PLAIN = "fleetfront", "plain script"
MOST_FAILED, MOST_WASTED = 2.0, 25.0
"""Failed candidates of 100; percent of the training seconds on candidates never on a front."""
NO_DEFECTS = frozenset({"unsupported_graph", "unsupported_target", "nan_loss", "busy", "deadline"})
"""Reasons of failed candidates that lie in the network, the target or the machine; every other,
such as a step that changes nothing or a gate of the export, is a defect of fleetfront."""


@dataclass(frozen=True)
class Judged:
    """Files of one origin after the interleaved pass, their quality on test beside them."""

    points: tuple[Figures, ...]
    volume: float
    share: float


# -- phases ---------------------------------------------------------------------------------


def run_campaign(row: Row, folder: Path, seed: int, search: Mapping[str, Any] | None = None
                 ) -> Front:
    """Runs the row's campaign in ``folder``, or reads the finished one."""
    if (folder / "ledger.db").exists() and not (folder / "benchmark.json").exists():
        shutil.rmtree(folder)
    if row.campaign_file is not None:
        file = Path(row.campaign_file)
        own_seed: int | None = seed
    else:
        file = folder.parent / f"{folder.name}.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(row.campaign(seed, dict(search or {})))
        own_seed = None
    wall_s = commands.run_timed(file, folder, own_seed, reuse=True, fresh=False)
    front = Reading(folder).front(commands.campaign_name(file))
    status = Reading(folder).status(front.campaign, time.time())
    print(f"{row.name}, {folder.name}: {wall_s:.0f} s, trials {status.trials}, "
          f"{len(front.points)} points on the front", flush=True)
    return front


def run_plain(row: Row, campaign: Path, folder: Path, seed: int) -> dict[str, Any]:
    """Runs the plain script in ``folder``, or reads what it left there: its ``points.json``."""
    if not (folder / "done.json").exists():
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "benchmarks.plain_script", "--network", row.network,
                   "--minutes", str(row.minutes), "--out", str(folder), "--seed", str(seed)]
        if row.campaign_file is not None:
            weights = folder / "weights.pt"
            save_baseline(commands.campaign_task(Path(row.campaign_file)), seed, campaign, weights)
            command += ["--weights", str(weights)]
        if not row.train:
            command += ["--epochs", "0"]
        began = time.monotonic()
        said = subprocess_text(command)
        (folder / "done.json").write_text(json.dumps(
            {"wall_s": time.monotonic() - began, "said": said}))
    done = json.loads((folder / "done.json").read_text())
    print(f"{row.name}, {PLAIN}: {done['wall_s']:.0f} s\n{done['said']}", flush=True)
    return dict(json.loads((folder / "points.json").read_text()))


def subprocess_text(command: Sequence[str]) -> str:
    """What a command prints. Raises SystemExit when it fails."""
    print(f"$ {' '.join(command)}", flush=True)
    done = subprocess.run(command, check=False, capture_output=True, text=True,
                          cwd=Path(__file__).parent.parent)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n"
                         f"{done.stderr[-2000:]}")
    return done.stdout


def save_baseline(task: str, seed: int, campaign: Path, target: Path) -> None:
    """The weights of the baseline that a campaign trained, as state_dict."""
    import torch

    from searcher.builders.builder import Builder
    from searcher.spec.recipe import Recipe
    from searcher.tasks.catalog import task as task_of

    builder = Builder(task_of(task), seed, campaign / "builds")
    torch.save(builder.model(Recipe(), "full").state_dict(), target)


def plain_front(found: Mapping[str, Any], folder: Path, drop: float) -> dict[str, Path]:
    """Files of the script's front by its own figures on validation, within ``drop``."""
    allowed = [p for p in found["points"]
               if p["quality"] >= found["baseline"]["quality"] - drop - 1e-9]
    chosen = front_indices([(-p["quality"], p["latency_s"], p["file_bytes"]) for p in allowed])
    return {f"{PLAIN} {Path(allowed[i]['file']).stem}": folder / allowed[i]["file"]
            for i in chosen}


def measured_ratios(files: Mapping[str, Path], baseline: Path, folder: Path, plan: str
                    ) -> dict[str, float]:
    """p50 of each file relative to the baseline's, from one pass that is kept in ``folder``."""
    kept = folder / "together.json"
    asked = {name: _sha256(path) for name, path in files.items()}
    if kept.exists():
        stored = json.loads(kept.read_text())
        if stored["files"] == asked:
            return dict(stored["ratios"])
    shutil.rmtree(folder / "together", ignore_errors=True)
    found = measure_together({**files, "baseline": baseline}, baseline, folder / "together", plan)
    ratios = {name: ratio.value for name, ratio in found.items()}
    kept.write_text(json.dumps({"files": asked, "ratios": ratios}))
    return ratios


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def qualities(row: Row, files: Sequence[Path], baseline: Path) -> dict[Path, Quality]:
    """Quality on test of each file, by the independent scripts."""
    if row.campaign_file is not None:
        task = commands.campaign_task(Path(row.campaign_file))
        text = subprocess_text([sys.executable, "-m", "benchmarks.recompute_accuracy", task,
                                "--json", *map(str, files)])
    else:
        text = subprocess_text([sys.executable, "-m", "benchmarks.recompute_models", row.network,
                                "--json", "--baseline", str(baseline), *map(str, files)])
    counts = json.loads(text)
    return {file: parse(Quality, counts[str(file)]) for file in files}


# -- judging --------------------------------------------------------------------------------


def one_row(row: Row, root: Path, seed: int, plan: str) -> tuple[list[tuple[str, ...]],
                                                                 list[Check]]:
    """Runs one row, or the rest of it. Rows of the table, and its checks."""
    folder = root / row.name
    front = run_campaign(row, folder / "campaign", seed)
    found = run_plain(row, folder / "campaign", folder / "plain", seed)
    baseline = front.baseline.artifact
    ours = {f"{OURS} {p.candidate}": p.artifact for p in front.points}
    plain = plain_front(found, folder / "plain", row.drop)
    files = {**ours, **plain}
    tested = qualities(row, [baseline, *files.values()], baseline)
    ratios = measured_ratios(files, baseline, folder, plan)
    base = Figures("baseline", tested[baseline].value, baseline.stat().st_size, 1.0)
    figures = {name: Figures(name, tested[file].value, file.stat().st_size, ratios[name])
               for name, file in files.items() if name in ratios}
    both = {origin: judged([figures[n] for n in names if n in figures], base, row)
            for origin, names in ((OURS, ours), (PLAIN, plain))}
    show_points(row, base, both, {name: tested[file] for name, file in files.items()})
    checks = [
        holds(f"{row.name}: points measured together", len(ratios) == len(files) + 1,
              f"{len(ratios)} of {len(files) + 1}", "all"),
        against(f"{row.name}: baseline against itself",
                abs(ratios["baseline"] - 1) * 100 if "baseline" in ratios else None, "<=", 1,
                " %", 2),
        holds(f"{row.name}: hypervolume above the plain script's",
              both[OURS].volume > both[PLAIN].volume, f"{both[OURS].volume:.5f}",
              f"> {both[PLAIN].volume:.5f}")]
    checks += check_goals(row, both[OURS], base, {n: tested[f] for n, f in ours.items()})
    checks += check_yardstick(row, found)
    failed, failure_checks = check_failures(row, folder / "campaign", front)
    wasted = wasted_share(folder / "campaign", front.campaign)
    checks += [*failure_checks, *check_waste(row, wasted), check_quality(row, front, tested)]
    lines = [table_line(row, origin, both[origin], base) for origin in (OURS, PLAIN)]
    extra = (failed, "none" if wasted is None else f"{wasted:.0%}")
    return [(*lines[0], *extra), (*lines[1], "", "")], checks


def judged(points: Sequence[Figures], baseline: Figures, row: Row) -> Judged:
    volume, share = volume_of(points, baseline, row.reference_drop)
    return Judged(tuple(points), volume, share)


def reached(points: Sequence[Figures], baseline: Figures, within: float
            ) -> tuple[Figures | None, Figures | None]:
    """The smallest and the fastest point that loses at most ``within``."""
    return (best(points, baseline.accuracy_test, lambda p: p.file_bytes, within),
            best(points, baseline.accuracy_test, lambda p: p.ratio, within))


def check_goals(row: Row, found: Judged, base: Figures, tested: Mapping[str, Quality]
                ) -> list[Check]:
    checks = []
    for goal in row.goals:
        smallest, fastest = reached(found.points, base, goal.within)
        where = f"{row.name}: {{}} within {goal.within * 100:g} points"
        if goal.smaller is not None:
            checks.append(against(where.format("smallest"),
                                  base.file_bytes / smallest.file_bytes if smallest else None,
                                  ">=", goal.smaller, "x smaller", 1))
        if goal.faster is not None:
            checks.append(against(where.format("fastest"), 1 / fastest.ratio if fastest else None,
                                  ">=", goal.faster, "x faster", 2))
        if goal.confident is not None:
            checks.append(confident_check(row, goal, found, base, tested))
    return checks


def confident_check(row: Row, goal: Goal, found: Judged, base: Figures,
                    tested: Mapping[str, Quality]) -> Check:
    """The best agreement over the confident samples of the points that reach the speed."""
    fast = [tested[p.name] for p in found.points if 1 / p.ratio >= (goal.faster or 0)
            and base.accuracy_test - p.accuracy_test <= goal.within + 1e-9]
    shares = [(q.confident_right or 0) / q.confident for q in fast if q.confident]
    return against(f"{row.name}: confident samples at {goal.faster:g}x faster",
                   max(shares, default=None), ">=", goal.confident or 0, "", 3)


def check_yardstick(row: Row, found: Mapping[str, Any]) -> list[Check]:
    """The plain script must reach what it is known to reach, by its own figures."""
    base = found["baseline"]
    points = [Figures(p["file"], p["quality_test"], p["file_bytes"],
                      p["latency_s"] / base["latency_s"]) for p in found["points"]]
    own = Figures("baseline", base["quality_test"], base["file_bytes"], 1.0)
    checks = []
    for goal in row.plain_goals:
        smallest, fastest = reached(points, own, goal.within)
        where = f"{row.name}: {PLAIN} within {goal.within * 100:g} points"
        checks += [against(where, own.file_bytes / smallest.file_bytes if smallest else None, ">=",
                           goal.smaller or 0, "x smaller", 1),
                   against(where, 1 / fastest.ratio if fastest else None, ">=",
                           goal.faster or 0, "x faster", 2)]
    return checks


def check_failures(row: Row, campaign: Path, front: Front) -> tuple[str, list[Check]]:
    """(failed candidates of 100 with their reasons, checks)."""
    trials = Reading(campaign).status(front.campaign, time.time()).trials
    count = sum(trials.values())
    reasons: dict[str, int] = {}
    for failure in front.failures:
        word = failure.reason.partition(":")[0]
        reasons[word] = reasons.get(word, 0) + 1
    share = 100 * len(front.failures) / count if count else None
    text = ", ".join(f"{n} {word}" for word, n in sorted(reasons.items())) or "none"
    for failure in front.failures:
        print(f"{row.name}, failed {failure.candidate}: {failure.reason}: {failure.message}")
    defects = sorted(reasons.keys() - NO_DEFECTS)
    said = "-" if share is None else f"{share:.1f} ({text})"
    return said, [
        against(f"{row.name}: failed candidates", share, "<=", MOST_FAILED, " of 100", 1),
        holds(f"{row.name}: failures that are defects", not defects, ", ".join(defects) or "none",
              "none")]


def check_waste(row: Row, wasted: float | None) -> list[Check]:
    """Nothing to check where nothing was trained."""
    if wasted is None and not row.train:
        return []
    return [against(f"{row.name}: training on candidates never on a front",
                    None if wasted is None else wasted * 100, "<", MOST_WASTED, " %", 1)]


def check_quality(row: Row, front: Front, tested: Mapping[Path, Quality]) -> Check:
    """The reported quality on test must equal the recomputed one exactly."""
    name = front.objectives[0].name + "_test"
    wrong = [p for p in front.files if p.values.get(name) != tested[p.artifact].value]
    for point in wrong:
        print(f"{row.name}: {point.candidate} reports {name} {point.values.get(name)}, recomputed "
              f"{tested[point.artifact].value}")
    return holds(f"{row.name}: quality recomputed independently", not wrong,
                 f"{len(front.files) - len(wrong)} of {len(front.files)} equal", "all")


# -- tables ---------------------------------------------------------------------------------


def show_points(row: Row, base: Figures, both: Mapping[str, Judged],
                tested: Mapping[str, Quality]) -> None:
    for origin, found in both.items():
        rows = []
        for point in sorted(found.points, key=lambda p: p.file_bytes):
            quality = tested[point.name]
            inside = ("" if quality.low is None
                      else f" [{quality.low:.3f} {quality.high:.3f}]")
            rows.append((point.name, f"{point.accuracy_test:.2%}{inside}",
                         f"{(base.accuracy_test - point.accuracy_test) * 100:+.2f} points",
                         bytes_text(point.file_bytes), f"{base.file_bytes / point.file_bytes:.1f}",
                         f"{1 / point.ratio:.2f}"))
        print_table(f"{row.name}: {origin}, baseline {base.accuracy_test:.2%}, "
                    f"{bytes_text(base.file_bytes)}",
                    ("file", "on test", "lost", "size", "x smaller", "x faster"), rows)


def table_line(row: Row, origin: str, found: Judged, base: Figures) -> tuple[str, ...]:
    def times(value: Callable[[Figures], float], point: Figures | None) -> str:
        return "-" if point is None else f"{value(point):.2f}x"

    cells = []
    for goal in row.goals:
        smallest, fastest = reached(found.points, base, goal.within)
        cells.append(f"{times(lambda p: base.file_bytes / p.file_bytes, smallest)}, "
                     f"{times(lambda p: 1 / p.ratio, fastest)} within {goal.within * 100:g}")
    return (row.name, origin, str(len(found.points)), "; ".join(cells), f"{found.volume:.5f}",
            f"{found.share:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=sorted(ROWS), default=list(ROWS))
    parser.add_argument("--dir", type=Path, default=Path(".cache/benchmarks/models"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float,
                        help="of search instead of each row's own, to try the benchmark")
    parser.add_argument("--plan", default="standard", help="plan of the interleaved pass")
    arguments = parser.parse_args()
    lines: list[tuple[str, ...]] = []
    checks: list[Check] = []
    for name in arguments.rows:
        row = ROWS[name]
        if arguments.minutes is not None:
            row = replace(row, minutes=arguments.minutes)
        found, row_checks = one_row(row, arguments.dir, arguments.seed, arguments.plan)
        lines += found
        checks += row_checks
        document = {"lines": lines, "checks": [asdict(check) for check in checks]}
        (arguments.dir / "table.json").write_text(json.dumps(document, indent=1))
    print_table("smaller, faster; points lost on test", (
        "network", "search", "points", "reached", "hypervolume", "of the ideal",
        "failed of 100", "training off the front"), lines)
    return conclude(checks)


if __name__ == "__main__":
    sys.exit(main())
