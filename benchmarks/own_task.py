"""A user's own models, data and metrics, from the command line to the front.

    python -m benchmarks.own_task [--only metrics campaigns photos] [--dir DIR] [--photos-gb 3]

- metrics: each metric against scikit-learn or torchmetrics, and the coverage of its intervals.
- campaigns: four tasks with a metric each; the quality of every file of each front is computed
  again by ``benchmarks.recompute_quality``.
- photos: a campaign on JPEG files that this benchmark makes; memory of data in the builders, and
  the speed of reading an epoch beside a plain DataLoader.

Exit code 1 when a check fails.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import commands, own_task_metrics, own_task_photos, own_tasks
from benchmarks.checks import Check, conclude, holds
from benchmarks.recompute_quality import quality
from searcher.cli.front import print_front
from searcher.results.view import Reading

CAMPAIGN = """\
name = "{name}"
task = "benchmarks.own_tasks:{name}"

[budget]
candidates = {candidates}
wall_minutes = {minutes}

[constraints]
quality_drop = {drop}
"""
DROPS = {"rare_class": 0.1, "one_logit": 0.05, "bar_pixels": 0.1, "angle": 0.1}


def run_campaign(name: str, root: Path, candidates: int, minutes: float, drop: float) -> Path:
    """Runs a campaign on ``benchmarks.own_tasks:name``; the folder of its ledger."""
    directory = root / name
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "campaign.toml"
    file.write_text(CAMPAIGN.format(name=name, candidates=candidates, minutes=minutes, drop=drop))
    commands.run_timed(file, directory, None, reuse=True)
    return directory


def campaigns(root: Path) -> list[Check]:
    """Compares the quality of every file of four fronts with that of the independent script."""
    checks = []
    for name, drop in DROPS.items():
        front = Reading(run_campaign(name, root, 12, 2.0, drop)).front(name)
        print_front(front)
        metric = front.quality.name
        apart = [abs(quality(name, p.artifact) - p.values[f"{metric}_test"]) for p in front.files]
        checks.append(holds(f"{name}: {metric} of {len(apart)} files, computed again",
                            max(apart) <= 1e-9 and len(apart) > 1,
                            f"largest difference {max(apart):.1e}", "equal, 2 or more files"))
    return checks


SECTIONS: dict[str, Callable[[Path, float], list[Check]]] = {
    "metrics": lambda root, gigabytes: own_task_metrics.checks(),
    "campaigns": lambda root, gigabytes: campaigns(root),
    "photos": own_task_photos.checks,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--dir", type=Path, help="kept; a temporary folder without it")
    parser.add_argument("--photos-gb", type=float, default=3.0)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        root = asked.dir or Path(scratch)
        os.environ[own_tasks.PHOTOS] = str(root / "jpeg")
        found = [check for name in asked.only for check in SECTIONS[name](root, asked.photos_gb)]
    return conclude(found, "own tasks")


if __name__ == "__main__":
    sys.exit(main())
