"""Effect of each strategy alone, and of four strategies in one recipe.

    python -m benchmarks.each_strategy [--dir DIR] [--only svd tucker] [--fidelity full]

Every row is a ``fleetfront build`` of a recipe file; latencies come from one interleaved pass over
all rows. Exit code 1 when a row fails.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from benchmarks import commands
from benchmarks.checks import Check, against, conclude, holds
from benchmarks.distillation import teacher_reaches_loss
from benchmarks.interleaved import Ratio, measure_together
from searcher.cli.options import print_table
from searcher.results.formatting import bytes_text
from searcher.spec.recipe import Recipe
from strategies import pipeline
from strategies.encoding import gates

TASK = "lenet5-mnist"
GROUPS = ("convolutions", "fully_connected")
FINETUNE = {"strategy": "finetune", "learning_rate": 0.005}
DISTILL = {"strategy": "knowledge_distillation", "learning_rate": 0.005}


@dataclass(frozen=True)
class Built:
    """One row after its build. ``ratio`` is p50 against the baseline's, None if not measured."""

    file: Path
    figures: Mapping[str, Any]
    accuracy_test: float
    ratio: Ratio | None
    directory: Path

    @property
    def smaller(self) -> float:
        return float(self.figures["file_ratio"])

    @property
    def macs_share(self) -> float:
        return float(self.figures["values"]["macs"] / self.figures["baseline"]["macs"])

    @property
    def faster(self) -> float | None:
        return None if self.ratio is None else 1 / self.ratio.value

    def initializer_shapes(self) -> Counter[tuple[int, ...]]:
        return Counter(tuple(t.dims) for t in onnx.load(self.file).graph.initializer)


@dataclass(frozen=True)
class Row:
    name: str
    steps: list[dict[str, Any]]
    judge: Callable[[str, Built], list[Check]] = field(repr=False)


def on(strategy: str, groups: tuple[str, ...] = GROUPS, **parameters: float
       ) -> list[dict[str, Any]]:
    return [{"strategy": strategy, "layers": group, **parameters} for group in groups]


def channels(name: str, built: Built) -> list[Check]:
    return [against(f"{name}: MACs", built.macs_share, "<=", 0.5, " of the baseline's"),
            against(f"{name}: p50", built.faster, ">=", 1.5, "x faster", 2)]


def magnitude(name: str, built: Built) -> list[Check]:
    most = max(layer["nonzero_share"] for layer in built.figures["layers"])
    return [against(f"{name}: non-zeros of the fullest tensor", most * 100, "<=", 10, " %", 2),
            against(f"{name}: bytes", built.smaller, ">=", 5, "x smaller", 1)]


def clustering(name: str, built: Built) -> list[Check]:
    most = max(layer["distinct_values"] for layer in built.figures["layers"])
    return [against(f"{name}: values of the richest tensor", most, "<=", 16, "", 0),
            against(f"{name}: bytes", built.smaller, ">=", 7, "x smaller", 1)]


def int8(name: str, built: Built) -> list[Check]:
    content = built.file.read_bytes()
    in_float = gates.unquantized_convolutions(content)
    integer = gates.load(content).operators["QLinearConv"]
    wanted = sum(layer["op"] == "Conv" for layer in built.figures["layers"])
    return [holds(f"{name}: convolutions run as QLinearConv", not in_float and integer == wanted,
                  f"{integer} of {wanted}", "all"),
            against(f"{name}: bytes", built.smaller, ">=", 3.5, "x smaller", 1)]


def low_rank(shapes: list[tuple[int, ...]], macs: float) -> Callable[[str, Built], list[Check]]:
    """``shapes`` are those of the factors (a matrix may be stored transposed), ``macs`` the largest
    fraction of the baseline's multiply-accumulates."""
    def judge(name: str, built: Built) -> list[Check]:
        there = built.initializer_shapes()
        found = [s for s in shapes if there[s] or (len(s) == 2 and there[s[::-1]])]
        return [holds(f"{name}: ranks in the file", len(found) == len(shapes),
                      " ".join("x".join(map(str, s)) for s in found) or "none",
                      " ".join("x".join(map(str, s)) for s in shapes)),
                against(f"{name}: MACs", built.macs_share, "<=", macs, " of the baseline's")]
    return judge


def distillation(name: str, built: Built) -> list[Check]:
    recipe = Recipe.from_list(list(built.figures["recipe"]))
    return teacher_reaches_loss(name, recipe, TASK, built.directory / "builds")


def four(name: str, built: Built) -> list[Check]:
    stages = {pipeline.instantiate(step).stage for step in built.figures["recipe"]}
    return [holds(f"{name}: stages", stages == {"structure", "weights", "training", "encoding"},
                  " ".join(sorted(stages)), "all four"),
            *int8(name, built)[:1], *clustering(name, built)[:1],
            against(f"{name}: bytes", built.smaller, ">=", 30, "x smaller", 1)]


ROWS = (
    Row("channel_pruning", [*on("channel_pruning", keep_ratio=0.5), FINETUNE], channels),
    Row("magnitude_pruning", [*on("magnitude_pruning", keep_ratio=0.1), FINETUNE], magnitude),
    Row("clustering", [*on("clustering", bits=4), FINETUNE], clustering),
    Row("int8", [{"strategy": "int8"}], int8),
    Row("tucker", [*on("tucker", GROUPS[:1], rank_ratio=0.3), FINETUNE], low_rank(
        [(6, 1, 5, 5), (20, 6, 1, 1), (6, 20, 1, 1), (15, 6, 5, 5), (50, 15, 1, 1)], 0.4)),
    Row("svd", [*on("svd", GROUPS[1:], rank_ratio=0.1), FINETUNE], low_rank(
        [(50, 800), (500, 50)], 0.86)),
    Row("knowledge_distillation", [*on("channel_pruning", keep_ratio=0.5), DISTILL],
        distillation),
    Row("four in one", [*on("channel_pruning", keep_ratio=0.5), *on("clustering", bits=4), DISTILL,
                        {"strategy": "int8"}], four),
)


def build_row(row: Row, directory: Path, fidelity: str) -> tuple[Path, dict[str, Any]]:
    output = directory / "rows" / row.name.replace(" ", "_")
    trained = any(pipeline.instantiate(s).stage == "training" for s in row.steps)
    figures = commands.build(row.steps, TASK, directory, output,
                             fidelity if trained else "untrained")
    return output / "model.onnx", figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path(".cache/benchmarks/each_strategy"))
    parser.add_argument("--only", nargs="+", help="names of rows")
    parser.add_argument("--fidelity", default="full", help="short or full")
    parser.add_argument("--plan", default="standard", help="measurement plan of the latencies")
    arguments = parser.parse_args()
    rows = [r for r in ROWS if arguments.only is None or r.name in arguments.only]
    if not rows:
        parser.error(f"unknown row; known: {', '.join(r.name for r in ROWS)}")
    baseline, before = build_row(Row("baseline", [], channels), arguments.dir, arguments.fidelity)
    files = {row.name: build_row(row, arguments.dir, arguments.fidelity) for row in rows}
    tested = commands.accuracies(TASK, [baseline, *(file for file, _ in files.values())])
    ratios = measure_together({name: file for name, (file, _) in files.items()}, baseline,
                              arguments.dir / "latencies", arguments.plan)
    table = [("baseline", f"{tested[baseline]:.2%}", bytes_text(baseline.stat().st_size), "1.0",
              f"{before['values']['macs'] / 1e6:.3f} M", "1.00", "")]
    checks: list[Check] = []
    for row in rows:
        file, figures = files[row.name]
        built = Built(file, figures, tested[file], ratios.get(row.name), arguments.dir)
        found = row.judge(row.name, built)
        checks += found
        table.append((row.name, f"{built.accuracy_test:.2%}", bytes_text(file.stat().st_size),
                      f"{built.smaller:.1f}", f"{figures['values']['macs'] / 1e6:.3f} M",
                      "not measured" if built.faster is None else f"{built.faster:.2f}",
                      "pass" if all(c.passed for c in found) else "FAIL"))
    print_table(f"{TASK}, each strategy alone", ("recipe", "test", "file", "x smaller", "MACs",
                                                 "x faster", ""), table)
    return conclude(checks)


if __name__ == "__main__":
    sys.exit(main())
