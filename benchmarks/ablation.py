"""What repair, scan, warm starts and training are worth: campaigns with one of them switched off.

    python -m benchmarks.ablation [--networks residual vgg] [--off repair scan] [--dir DIR]

Every campaign has the same seed and the same time as the network's row of ``benchmarks.models``.
All fronts of a network are measured in one interleaved pass, with their quality on test. The
campaign with everything on also gives the rank correlation of quality after repair with quality
after full training. What is finished in DIR is not run again. Exit code 1 when switching something
off makes the hypervolume larger.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from scipy.stats import spearmanr

from benchmarks.checks import Check, conclude, holds
from benchmarks.fronts import Figures
from benchmarks.model_rows import ROWS, Row
from benchmarks.models import judged, measured_ratios, qualities, run_campaign, table_line
from searcher.cli.options import print_table
from searcher.results.view import Reading

EVERYTHING = "everything"
OPTIONS = ("repair", "scan", "warm_starts", "train")
"""Options of [search] that are true by default."""


def paired_qualities(directory: Path, campaign: str) -> list[tuple[float, float]]:
    """Quality on validation (after repair, after full training) of each recipe that has both."""
    with Reading(directory).ledger() as db:
        rows = db.execute("""
            SELECT r.recipe, avg(er.value), avg(ef.value) FROM builds r
              JOIN builds f ON f.recipe = r.recipe AND f.task = r.task AND f.seed = r.seed
              JOIN evaluations er ON er.sha256 = r.sha256 AND er.split = 'validation'
              JOIN evaluations ef ON ef.sha256 = f.sha256 AND ef.split = 'validation'
            WHERE r.fidelity = 'repaired' AND f.fidelity = 'full' AND r.recipe IN
              (SELECT recipe FROM trials WHERE campaign = ?)
            GROUP BY r.recipe""", [campaign]).fetchall()
    return [(float(repaired), float(trained)) for _, repaired, trained in rows]


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's; None for fewer than three pairs or where one side is constant."""
    first, second = zip(*pairs, strict=True) if pairs else ((), ())
    if len(pairs) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return float(spearmanr(first, second).statistic)


def one_network(row: Row, folder: Path, off: Sequence[str], seed: int, plan: str
                ) -> tuple[list[tuple[str, ...]], list[Check]]:
    """Rows of the table and checks."""
    settings: Mapping[str, dict[str, object]] = {
        EVERYTHING: {}, **{f"no {option}": {option: False} for option in off}}
    fronts = {name: run_campaign(row, folder / name.replace(" ", "-"), seed, search)
              for name, search in settings.items()}
    baseline = fronts[EVERYTHING].baseline.artifact
    files = {f"{name}: {p.candidate}": p.artifact
             for name, front in fronts.items() for p in front.points}
    tested = qualities(row, [baseline, *files.values()], baseline)
    ratios = measured_ratios(files, baseline, folder, plan)
    base = Figures("baseline", tested[baseline].value, baseline.stat().st_size, 1.0)
    found = {}
    for name, front in fronts.items():
        named = {f"{name}: {p.candidate}": p.artifact for p in front.points}
        found[name] = judged([
            Figures(n, tested[file].value, file.stat().st_size, ratios[n])
            for n, file in named.items() if n in ratios], base, row)
    pairs = paired_qualities(folder / EVERYTHING, fronts[EVERYTHING].campaign)
    correlation = rank_correlation(pairs)
    print(f"{row.name}: rank correlation of quality after repair with quality after full training "
          f"over {len(pairs)} recipes: {'-' if correlation is None else f'{correlation:.3f}'}")
    whole = found[EVERYTHING].volume
    checks = [holds(f"{row.name}: {name}", judged_.volume <= whole, f"{judged_.volume:.5f}",
                    f"<= {whole:.5f}") for name, judged_ in found.items() if name != EVERYTHING]
    return [table_line(row, name, judged_, base) for name, judged_ in found.items()], checks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=("residual", "vgg", "vision_transformer"),
                        default=["residual", "vgg"])
    parser.add_argument("--off", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--dir", type=Path, default=Path(".cache/benchmarks/ablation"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan", default="standard", help="plan of the interleaved pass")
    arguments = parser.parse_args()
    lines: list[tuple[str, ...]] = []
    checks: list[Check] = []
    for name in arguments.networks:
        found, network_checks = one_network(ROWS[name], arguments.dir / name, arguments.off,
                                            arguments.seed, arguments.plan)
        lines += found
        checks += network_checks
    print_table("smaller, faster; points lost on test", (
        "network", "campaign", "points", "reached", "hypervolume", "of the ideal"), lines)
    return conclude(checks)


if __name__ == "__main__":
    sys.exit(main())
