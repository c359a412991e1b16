"""Runs the demo campaign for several seeds and checks its results.

    python -m benchmarks.demo --seeds 0 1 2 [--dir ROOT] [--reuse]
    python -m benchmarks.demo --order ROOT/seed-0        # measures the order of the front again

Each seed runs ``fleetfront run`` in ROOT/seed-N; ``--reuse`` checks folders that are finished
without running them again. Exit code 1 when a check fails.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import commands, spans
from benchmarks.checks import Check, against, conclude, holds
from benchmarks.fronts import DIFFERENT, Figures, best, reversed_pairs
from benchmarks.interleaved import measure_together
from benchmarks.old_runtime import check_files
from benchmarks.recompute_accuracy import cache_folder, split_of_test
from searcher.cli.front import print_front
from searcher.cli.options import print_table
from searcher.documents import parse
from searcher.jobs.build import GraphCosts
from searcher.ledger.tables import builds
from searcher.results.front import Front, FrontPoint
from searcher.results.view import Reading

FURTHER_TRAINING = {"strategy": "finetune", "learning_rate": 0.003}
PROBES = 64


def figures_of(front: Front) -> tuple[Figures, list[Figures]]:
    """Baseline and points of a front that have a test accuracy."""
    level = front.baseline.values["latency_s"]

    def figures(point: FrontPoint) -> Figures:
        values = point.values
        ratio = values.get("latency_ratio", values["latency_s"] / level)
        return Figures(point.candidate, values["accuracy_test"], int(values["file_bytes"]), ratio)

    points = [figures(p) for p in front.points if "accuracy_test" in p.values]
    return figures(front.baseline), points


def one_seed(file: Path, root: Path, seed: int, reuse: bool) -> list[Check]:
    """Runs (or reuses) one seed and checks its results."""
    directory, label = root / f"seed-{seed}", f"seed {seed}"
    wall_s = commands.run_timed(file, directory, seed, reuse)
    name, task = commands.campaign_name(file), commands.campaign_task(file)
    front = Reading(directory).front(name)
    print_front(front)
    checks = [against(f"{label}: wall time of the command", wall_s, "<=", 180, " s", 1)]
    checks += check_baseline(directory, front, label)
    checks += check_front(front, label)
    checks += check_time(directory, name, label)
    checks += check_honesty(directory, root / f"seed-{seed}-further", task, seed, front, label)
    checks += check_accuracy(front, task, label)
    inputs, _ = split_of_test(task, cache_folder())
    files = [p.artifact for p in front.files]
    return checks + check_files(files, inputs[:PROBES], label)


def check_baseline(directory: Path, front: Front, label: str) -> list[Check]:
    baseline = front.baseline
    accuracy, interval = baseline.values["accuracy_test"], baseline.intervals["accuracy_test"]
    with Reading(directory).ledger() as db:
        row = builds.of_file(db, baseline.sha256)
    assert row is not None
    parameters = parse(GraphCosts, row.report).parameters
    beyond = baseline.values["file_bytes"] - 4 * parameters
    print(f"{label}: baseline {accuracy:.2%} on test, 95 % interval "
          f"{interval[0]:.2%}..{interval[1]:.2%}, {parameters:,} parameters, file "
          f"{baseline.values['file_bytes']:,} bytes")
    return [against(f"{label}: baseline on test", accuracy * 100, ">=", 98.5, " %", 2),
            against(f"{label}: baseline's file beyond 4 bytes a parameter", beyond, "<=", 8192,
                    " bytes", 0)]


def check_front(front: Front, label: str) -> list[Check]:
    baseline, points = figures_of(front)
    smallest = best(points, baseline.accuracy_test, lambda p: p.file_bytes)
    fastest = best(points, baseline.accuracy_test, lambda p: p.ratio)
    rows = [(what, p.name, f"{(baseline.accuracy_test - p.accuracy_test) * 100:+.2f} points",
             f"{baseline.file_bytes / p.file_bytes:.1f}x", f"{baseline.ratio / p.ratio:.2f}x")
            for what, p in (("smallest", smallest), ("fastest", fastest)) if p is not None]
    print_table(f"{label}: within one point on test", ("", "candidate", "lost", "smaller",
                                                       "faster"), rows)
    return [
        against(f"{label}: smallest within one point on test",
                baseline.file_bytes / smallest.file_bytes if smallest else None, ">=", 80,
                "x smaller", 1),
        against(f"{label}: fastest within one point on test",
                baseline.ratio / fastest.ratio if fastest else None, ">=", 4, "x faster", 2)]


def check_time(directory: Path, name: str, label: str) -> list[Check]:
    share, overlapping, measured = spans.overhead(directory, name)
    return [against(f"{label}: overhead", share * 100, "<", 5, " % of the wall time", 2),
            holds(f"{label}: measurements beside a build", overlapping == 0 and measured > 0,
                  f"{overlapping} of {measured} spans", "0")]


def check_honesty(directory: Path, output: Path, task: str, seed: int,
                  front: Front, label: str) -> list[Check]:
    """The baseline must not gain from the largest number of further epochs of a candidate."""
    further_training = [FURTHER_TRAINING, FURTHER_TRAINING]
    figures = commands.build(further_training, task, directory, output, seed=seed)
    further, baseline = output / "model.onnx", front.baseline.artifact
    tested = commands.accuracies(task, [further, baseline])
    gains = {"validation": figures["values"]["accuracy"] - figures["baseline"]["value"],
             "test": tested[further] - tested[baseline]}
    return [against(f"{label}: further epochs raise the baseline on {split}", gain * 100, "<",
                    0.3, " points", 2) for split, gain in gains.items()]


def check_accuracy(front: Front, task: str, label: str) -> list[Check]:
    """The reported test accuracy must equal the recomputed one exactly."""
    points = front.files
    tested = commands.accuracies(task, [p.artifact for p in points])
    wrong = [p for p in points if p.values.get("accuracy_test") != tested[p.artifact]]
    for point in wrong:
        print(f"{label}: {point.candidate} reports {point.values.get('accuracy_test')}, "
              f"recomputed {tested[point.artifact]}")
    return [holds(f"{label}: accuracy recomputed independently", not wrong,
                  f"{len(points) - len(wrong)} of {len(points)} equal", "all")]


def check_order(directory: Path, plan: str) -> list[Check]:
    """Compares the front's latencies with a second joint measurement of its files."""
    reading = Reading(directory)
    rows = reading.campaigns()
    if len(rows) != 1:
        raise SystemExit(f"{directory} holds {len(rows)} campaigns; --order needs exactly one.")
    front = reading.front(rows[0].name)
    files = {p.candidate: p.artifact for p in front.points}
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        ratios = measure_together(files, front.baseline.artifact, Path(scratch),
                                  plan, set_size=64)
    first = {p.candidate: p.values["latency_ratio"] for p in front.points}
    second = {name: found.value for name, found in ratios.items()}
    print_table(f"{directory}: measured twice", ("candidate", "ratio then", "ratio now",
                                                 "change", "x faster now"), [
        (name, f"{first[name]:.4f}", f"{second[name]:.4f}",
         f"{second[name] / first[name] - 1:+.1%}", f"{1 / second[name]:.2f}")
        for name in sorted(second, key=first.__getitem__)])
    distinct, reversed_ = reversed_pairs(first, second)
    for a, b in reversed_:
        print(f"reversed: {a} and {b}")
    return [holds("all files measured again", len(second) == len(first),
                  f"{len(second)} of {len(first)}", "all"),
            holds(f"pairs over {DIFFERENT:.0%} apart that are reversed", not reversed_,
                  f"{len(reversed_)} of {distinct}", "0")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--dir", type=Path, default=Path(".cache/benchmarks/demo"))
    parser.add_argument("--campaign", type=Path, default=Path("examples/lenet5_mnist.toml"))
    parser.add_argument("--reuse", action="store_true", help="check finished folders again")
    parser.add_argument("--order", type=Path, help="measure this folder's front again")
    parser.add_argument("--plan", default="standard", help="measurement plan of --order")
    arguments = parser.parse_args()
    if arguments.order is not None:
        return conclude(check_order(arguments.order, arguments.plan))
    checks = [against("fleetfront --help, median of 5", commands.help_s(), "<", 0.3, " s", 2)]
    for seed in arguments.seeds:
        checks += one_seed(arguments.campaign, arguments.dir, seed, arguments.reuse)
    return conclude(checks)


if __name__ == "__main__":
    sys.exit(main())
