"""Highest load of one coordinator, and what limits it.

    python -m benchmarks.load [--only a b c] [--dir DIR]
    python -m benchmarks.load --mechanisms [NAME ...] [--rounds N]

(a) 100 agents for one minute; (b) 1,000 keep-alive connections that replay golden messages: the
generator runs on one core, a bare server and then the shipped ``fleetfront serve`` on the other;
(c) 10,000 idle long polls. ``--mechanisms`` runs a separate benchmark, which measures the effect of
each optimisation for load (``benchmarks/load/mechanisms.py``). Exit code 1 when a check fails.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.checks import Check, against, conclude, holds
from benchmarks.load.fleet import run_fleet
from benchmarks.load.idle import allow_files, idle_polls
from benchmarks.load.mechanisms import (
    GENERATOR_CORE,
    MOST_TIMES_BARE,
    SAMPLES,
    SERVER_CORE,
    compare,
)
from benchmarks.load.prepared import CAMPAIGN, Device, Serving, bare, fill, result, serving
from benchmarks.load.replay import Tally, replay
from searcher.cli.options import print_table
from searcher.client.http import CoordinatorClient
from searcher.ledger.read_only import open_ledger
from searcher.local.process_tree import build_agent
from searcher.spec.recipe import Recipe, Step

HALF_TIMES = 3
"""Duration of the half load, in durations of the highest load. In a shorter time, the 1,000 trials
would themselves be a large part of the load."""
TRIALS = 1000


def throughput(directory: Path, connections: int, seconds: float) -> list[Check]:
    """Measures the highest load, then half of it during a campaign; checks the ledger.

        start | settle | highest load (closed loop) | settle | half load (at a fixed rate)
    """
    jobs_each = max(int(2.5 * seconds * 1500 / connections), 10)
    print(f"preparing {connections} devices with {jobs_each} jobs each ...", flush=True)
    devices = fill(directory, connections, jobs_each)
    os.sched_setaffinity(0, {GENERATOR_CORE})
    with bare(directory.with_name("bare"), SERVER_CORE) as served:
        alone = _load(served, devices, seconds, None)
    with serving(directory, SERVER_CORE) as served:
        served.settle()
        most = _load(served, devices, seconds, None)
        served.settle()
        half = _load(served, devices, HALF_TIMES * seconds, most.cycles_per_s / 2)
    os.sched_setaffinity(0, {GENERATOR_CORE, SERVER_CORE})
    print_table(f"(b) {connections} connections, results of {SAMPLES} samples", (
        "load", "cycles/s", "CPU per cycle", "lease p50", "lease p99"), [
        (name, f"{load.cycles_per_s:.0f}", f"{load.cpu_ms:.3f} ms",
         f"{load.tally.lease_ms(0.5):.1f} ms", f"{load.tally.lease_ms(0.99):.1f} ms")
        for name, load in (("a bare server, highest", alone), ("highest", most),
                           ("half, during a campaign", half))])
    print("Limit: one core, which the coordinator's event loop (SQLite, HTTP) shares with the "
          "campaign's search.")
    return [
        against(f"(b) CPU per cycle, {most.cpu_ms:.3f} ms, over {alone.cpu_ms:.3f} ms of a bare "
                "server", most.cpu_ms / alone.cpu_ms, "<=", MOST_TIMES_BARE, "x", 2),
        against("(b) p99 of a lease answer at half load", half.tally.lease_ms(0.99), "<",
                100, " ms", 1),
        holds("(b) trials created during the half load", half.trials >= TRIALS, str(half.trials),
              f">= {TRIALS}"),
        *_stored(directory, most.tally, half.tally)]


@dataclass(frozen=True)
class Load:
    """Results of one load. CPU time includes the server and its child processes except searches.
    ``trials`` counts the trials that a campaign created during the load."""

    tally: Tally
    cycles_per_s: float
    cpu_ms: float
    trials: int


def _load(served: Serving, devices: list[Device], seconds: float,
          cycles_per_s: float | None) -> Load:
    place, tally = urlsplit(served.url), Tally()
    trials: list[int] = []
    campaign = threading.Thread(target=_run_campaign, args=(served, seconds, trials))
    if cycles_per_s is not None:
        campaign.start()
    before_s, began_s = served.cpu_s() + served.helpers_cpu_s(), time.monotonic()
    asyncio.run(replay(place.hostname or "", place.port or 0, devices, result(SAMPLES), seconds,
                       cycles_per_s, tally))
    took_s = time.monotonic() - began_s
    cpu_s = served.cpu_s() + served.helpers_cpu_s() - before_s
    if cycles_per_s is not None:
        campaign.join()
    return Load(tally, tally.cycles / took_s, cpu_s / max(tally.cycles, 1) * 1e3, len(trials))


def _run_campaign(served: Serving, seconds: float, trials: list[int]) -> None:
    """Creates and completes ``TRIALS`` trials, spread evenly over ``seconds``."""
    with CoordinatorClient(served.url, served.token) as client:
        began_s = time.monotonic()
        for number in range(TRIALS):
            time.sleep(max(began_s + number * 0.9 * seconds / TRIALS - time.monotonic(), 0))
            recipe = Recipe((Step.of("svd", "model", {"rank": number + 1}),))
            trial = client.create_trial(CAMPAIGN, "device-00000", recipe)
            client.tell_trial(trial.id, "complete", values={"accuracy": 0.9})
            trials.append(trial.id)


def _stored(directory: Path, *tallies: Tally) -> list[Check]:
    acknowledged = set().union(*(tally.acknowledged for tally in tallies))
    refused = [text for tally in tallies for text in tally.refused]
    for text in refused[:5]:
        print(f"refused: {text}")
    with open_ledger(directory / "ledger.db") as db:
        stored = {row[0]: row[1] for row in db.execute(
            """SELECT m.job, count(*) FROM measurements m JOIN samples s ON s.measurement = m.id
               JOIN jobs j ON j.id = m.job WHERE j.state = 'done' GROUP BY m.job""")}
    missing = [job for job in acknowledged if stored.get(job) != 1]
    return [holds("(b) acknowledged results stored exactly once", not missing,
                  f"{len(acknowledged) - len(missing)} of {len(acknowledged)}", "all"),
            holds("(b) refusals", not refused, str(len(refused)), "0")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices="abc", default=list("abc"))
    parser.add_argument("--dir", type=Path, help="keep the ledgers in this folder")
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of each load of (b)")
    parser.add_argument("--connections", type=int, default=1000, help="connections of (b)")
    parser.add_argument("--polls", type=int, default=10_000, help="long polls of (c)")
    parser.add_argument("--agents", type=int, default=100, help="agents of (a)")
    parser.add_argument("--mechanisms", nargs="*", metavar="NAME",
                        help="measure only the effect of these optimisations (without names: all)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of --mechanisms")
    parser.add_argument("--each", type=float, default=8.0, metavar="SECONDS",
                        help="duration of each load of --mechanisms")
    arguments = parser.parse_args()
    allow_files(65_536)
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="fleetfront-load-") as scratch:
        root = arguments.dir or Path(scratch)
        if arguments.mechanisms is not None:
            return conclude(compare(
                root, arguments.mechanisms, arguments.rounds, arguments.each))
        if "a" in arguments.only:
            folder = root / "fleet"
            fill(folder, 0, 0)
            build_agent(folder / "agent.pyz")
            with serving(folder, None) as served:
                checks += run_fleet(served, folder, arguments.agents, 60.0)
        if "b" in arguments.only:
            checks += throughput(root / "replay", arguments.connections, arguments.seconds)
        if "c" in arguments.only:
            devices = fill(root / "idle", arguments.polls, 0)
            with serving(root / "idle", None) as served:
                checks += idle_polls(served, devices)
    return conclude(checks)


if __name__ == "__main__":
    sys.exit(main())
