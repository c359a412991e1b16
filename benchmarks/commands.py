"""Runs fleetfront's commands as a user does, and reads and writes campaign files."""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FLEETFRONT = Path(sys.executable).with_name("fleetfront")


def fleetfront(*arguments: object, quiet: bool = False) -> float:
    """Runs one command and returns its wall time in seconds. Raises SystemExit when it fails."""
    command = [str(FLEETFRONT), *map(str, arguments)]
    if not quiet:
        print(f"$ {' '.join(command)}", flush=True)
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n"
                         f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.monotonic() - began


def help_s(processes: int = 5) -> float:
    """Median wall time of ``fleetfront --help``, in seconds."""
    return statistics.median(fleetfront("--help", quiet=True) for _ in range(processes))


def campaign_name(file: Path) -> str:
    return str(tomllib.loads(file.read_text())["name"])


def campaign_task(file: Path) -> str:
    return str(tomllib.loads(file.read_text())["task"])


def campaign_seed(file: Path) -> int:
    return int(tomllib.loads(file.read_text()).get("seed", 0))


def with_seed(text: str, seed: int) -> str:
    """The campaign file's text with another seed."""
    changed, count = re.subn(r"(?m)^seed\s*=\s*\d+", f"seed = {seed}", text)
    return changed if count else f"seed = {seed}\n{text}"


def run_timed(file: Path, directory: Path, seed: int | None, reuse: bool,
              fresh: bool = True) -> float:
    """Runs a campaign file, with ``seed`` instead of its own, in ``directory``; wall time in s.

    The time is stored in ``directory/benchmark.json``. With ``reuse`` a folder with a stored time
    is not run again. With ``fresh`` the folder must not contain builds.
    """
    kept = directory / "benchmark.json"
    if reuse and kept.exists():
        return float(json.loads(kept.read_text())["wall_s"])
    if (directory / "ledger.db").exists() or (fresh and (directory / "builds").exists()):
        raise SystemExit(f"{directory} holds a run already: name another folder, or --reuse a "
                         "finished benchmark.")
    directory.mkdir(parents=True, exist_ok=True)
    text = file.read_text()
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        copy = Path(scratch) / file.name
        copy.write_text(text if seed is None else with_seed(text, seed))
        wall_s = fleetfront("run", copy, "--dir", directory)
    kept.write_text(json.dumps({"wall_s": wall_s}))
    return wall_s


def build(recipe: Sequence[dict[str, Any]], task: str, directory: Path, output: Path,
          fidelity: str = "full", seed: int = 0) -> dict[str, Any]:
    """Runs ``fleetfront build`` for a list of steps; returns the content of its figures.json."""
    from searcher.spec.recipe import Recipe

    output.mkdir(parents=True, exist_ok=True)
    file = output / "asked.toml"
    file.write_text(Recipe.from_list([dict(step) for step in recipe]).as_toml())
    fleetfront("build", file, "--task", task, "--fidelity", fidelity, "--seed", seed,
               "--dir", directory, "-o", output)
    return dict(json.loads((output / "figures.json").read_text()))


def accuracies(task: str, files: Sequence[Path]) -> dict[Path, float]:
    """Test accuracy of each file, by the independent script in a separate process."""
    command = [sys.executable, "-m", "benchmarks.recompute_accuracy", task, "--json",
               *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parent.parent)
    if done.returncode != 0:
        raise SystemExit(f"benchmarks.recompute_accuracy failed:\n{done.stderr[-2000:]}")
    counts = json.loads(done.stdout)
    return {file: counts[str(file)]["right"] / counts[str(file)]["n"] for file in files}
