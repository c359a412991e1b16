"""The demo with two installations: mean hypervolume of their fronts.

    python -m benchmarks.demo_volume --other /path/of/another/.venv/bin/fleetfront [--seeds 0 1 2]

For each seed the demo runs with this installation and with the other, one after the other, so that
both see the same machine. Test accuracy, latency and size are those of each campaign's own final
measurement. What is finished in DIR is not run again. Exit code 1 when this installation's mean is
lower.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.checks import against, conclude
from benchmarks.commands import FLEETFRONT, campaign_name, with_seed
from benchmarks.fronts import Figures, best, volume_of
from searcher.cli.options import print_table

CAMPAIGN = Path("examples/lenet5_mnist.toml")
COLUMNS = ("seed", "installation", "hypervolume", "points", "smallest within 1 %",
           "fastest within 1 %")


def run_demo(fleetfront: Path, seed: int, folder: Path) -> Path:
    """The front.json of the demo with ``seed``."""
    front = folder / campaign_name(CAMPAIGN) / "front.json"
    if not front.exists():
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "campaign.toml"
        file.write_text(with_seed(CAMPAIGN.read_text(), seed))
        print(f"$ {fleetfront} run, seed {seed}", flush=True)
        # In another folder its processes would import the modules of this installation.
        subprocess.run([fleetfront.absolute(), "run", file, "--dir", folder], check=True,
                       capture_output=True, cwd=folder)
    return front


def figures_of(front: Path) -> tuple[Figures, list[Figures]]:
    """Baseline and points of a front.json."""
    document = json.loads(front.read_text())
    level_s = document["baseline"]["values"]["latency_s"]

    def figures(entry: dict[str, dict[str, float]]) -> Figures:
        values = entry["values"]
        return Figures("", values["accuracy_test"], int(values["file_bytes"]),
                       values["latency_s"] / level_s)

    points = [figures(point) for point in document["points"]]
    return figures(document["baseline"]), points


def row_of(seed: int, name: str, front: Path) -> tuple[float, tuple[str, ...]]:
    baseline, points = figures_of(front)
    _, share = volume_of(points, baseline)
    small = best(points, baseline.accuracy_test, lambda p: p.file_bytes)
    fast = best(points, baseline.accuracy_test, lambda p: p.ratio)
    return share, (str(seed), name, f"{share:.4f}", str(len(points)),
                   "-" if small is None else f"{baseline.file_bytes / small.file_bytes:.0f}x",
                   "-" if fast is None else f"{1 / fast.ratio:.2f}x")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--dir", type=Path)
    given = parser.parse_args(arguments)
    root = given.dir or Path(tempfile.mkdtemp(prefix="demo-volume-"))
    installations = {"this": FLEETFRONT, "other": given.other}
    shares: dict[str, list[float]] = {name: [] for name in installations}
    rows = []
    for seed in given.seeds:
        for name, fleetfront in installations.items():
            share, row = row_of(seed, name, run_demo(fleetfront, seed, root / f"{name}-{seed}"))
            shares[name].append(share)
            rows.append(row)
    print_table("the demo, hypervolume as a share of the ideal", COLUMNS, rows)
    means = {name: statistics.mean(found) for name, found in shares.items()}
    return conclude([against("mean hypervolume of this installation", means["this"], ">=",
                             means["other"], "", 4)])


if __name__ == "__main__":
    sys.exit(main())
