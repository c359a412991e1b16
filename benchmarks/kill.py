"""Recovery after SIGKILL of the whole process tree: kill after ten trials, then run again.

    python -m benchmarks.kill [--dir DIR] [--campaign FILE.toml] [--trials 10]

Finished trials must keep ids, hashes and figures, no job may be done twice, the campaign must end.
"""

import argparse
import contextlib
import hashlib
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import commands
from benchmarks.checks import Check, conclude, holds
from searcher.cli.options import print_table
from searcher.errors import FleetfrontError
from searcher.ledger.tables import trials
from searcher.results.view import Reading

FINISHED = ("complete", "pruned", "failed")
POLL_S = 0.2


@dataclass(frozen=True)
class Snapshot:
    """Content of a ledger: finished trials by id, ended jobs by id, builds by key."""

    trials: dict[int, dict[str, Any]]
    jobs: dict[int, tuple[Any, ...]]
    builds: dict[str, tuple[Any, ...]]
    state: str


def snapshot(directory: Path, campaign: str) -> Snapshot:
    reading = Reading(directory)
    row, _ = reading.campaign(campaign)
    with reading.ledger() as db:
        finished = {t.id: asdict(t) for t in trials.history(db, campaign, states=FINISHED)}
        jobs = {r[0]: tuple(r[1:]) for r in db.execute(
            "SELECT id, key, state, attempt, result_sha256, finished_s FROM jobs "
            "WHERE state IN ('done', 'failed')")}
        built = {r[0]: tuple(r[1:]) for r in db.execute(
            "SELECT key, sha256, job, created_s FROM builds")}
    return Snapshot(finished, jobs, built, row.state)


def begun_after(directory: Path, jobs: set[int], now_s: float) -> list[int]:
    """Those of ``jobs`` that ran again after ``now_s``."""
    with Reading(directory).ledger() as db:
        return sorted({r[0] for r in db.execute(
            "SELECT job FROM spans WHERE start_s > ?", [now_s])} & jobs)


def run_until(command: list[str], directory: Path, campaign: str, wanted: int) -> int:
    """Starts the command and kills its process tree after ``wanted`` finished trials; returns the
    number of killed processes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        with contextlib.suppress(FleetfrontError):
            if len(snapshot(directory, campaign).trials) >= wanted:
                return kill_tree(process)
        time.sleep(POLL_S)
    _, errors = process.communicate()
    raise SystemExit(f"The campaign ended before {wanted} trials were finished:\n{errors.decode()}")


def kill_tree(process: subprocess.Popen[bytes]) -> int:
    root = psutil.Process(process.pid)
    processes = [root, *root.children(recursive=True)]
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.communicate()
    psutil.wait_procs(processes, timeout=30)
    return len(processes)


def check(before: Snapshot, after: Snapshot, again: list[int], directory: Path,
          campaign: str) -> list[Check]:
    kept = sum(after.trials.get(i) == row for i, row in before.trials.items())
    same_jobs = sum(after.jobs.get(i) == row for i, row in before.jobs.items())
    same_builds = sum(after.builds.get(k) == row for k, row in before.builds.items())
    keys = [row[0] for row in after.jobs.values()]
    files = [t["sha256"] for t in before.trials.values() if t["sha256"]]
    whole = sum(hashlib.sha256((directory / "artifacts" / f).read_bytes()).hexdigest() == f
                for f in files)
    front = directory / campaign / "front.json"
    return [
        holds("finished trials keep ids, hashes and figures", kept == len(before.trials),
              f"{kept} of {len(before.trials)}", "all"),
        holds("their files have their digests", whole == len(files),
              f"{whole} of {len(files)}", "all"),
        holds("ended jobs keep their results", same_jobs == len(before.jobs),
              f"{same_jobs} of {len(before.jobs)}", "all"),
        holds("builds are unchanged", same_builds == len(before.builds),
              f"{same_builds} of {len(before.builds)}", "all"),
        holds("ended jobs that ran again", not again, str(len(again)), "0"),
        holds("job keys done twice", len(keys) == len(set(keys)),
              str(len(keys) - len(set(keys))), "0"),
        holds("the campaign ended", after.state == "done" and front.exists(), after.state,
              "done, with front.json"),
        holds("the campaign continued after the kill", len(after.trials) > len(before.trials),
              f"{len(after.trials)} finished trials", f"more than {len(before.trials)}"),
    ]


def show(before: Snapshot, after: Snapshot) -> None:
    rows = []
    for number, row in before.trials.items():
        now = after.trials.get(number, {})
        values = row["values"] or {}
        rows.append((str(number), row["recipe"][:12], row["state"], (row["sha256"] or "")[:12],
                     "  ".join(f"{k} {v:.6g}" for k, v in values.items() if k in (
                         "accuracy", "latency_s", "file_bytes")),
                     "kept" if now == row else "CHANGED"))
    print_table("finished when killed", ("trial", "recipe", "state", "file", "figures", ""), rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path(".cache/benchmarks/kill"))
    parser.add_argument("--campaign", type=Path, default=Path("examples/lenet5_mnist.toml"))
    parser.add_argument("--trials", type=int, default=10, help="finished before the kill")
    arguments = parser.parse_args()
    if (arguments.dir / "ledger.db").exists():
        parser.error(f"{arguments.dir} holds a ledger already; name another folder")
    name = commands.campaign_name(arguments.campaign)
    command = [str(commands.FLEETFRONT), "run", str(arguments.campaign), "--dir",
               str(arguments.dir)]
    killed = run_until(command, arguments.dir, name, arguments.trials)
    before, killed_at_s = snapshot(arguments.dir, name), time.time()
    print(f"killed {killed} processes when {len(before.trials)} trials were finished, "
          f"{len(before.jobs)} jobs ended, {len(before.builds)} builds done")
    wall_s = commands.fleetfront("run", arguments.campaign, "--dir", arguments.dir)
    print(f"the same command again: {wall_s:.1f} s")
    after = snapshot(arguments.dir, name)
    show(before, after)
    again = begun_after(arguments.dir, set(before.jobs), killed_at_s)
    return conclude(check(before, after, again, arguments.dir, name))


if __name__ == "__main__":
    sys.exit(main())
