"""What one coordinator carries, and what bounds it.

    python -m benchmarks.load [--only a b c] [--dir DIR]

(a) a hundred real agents for a minute; (b) a thousand keep-alive connections that replay golden
messages, the generator on one core, ``fleetfront serve`` as shipped on the other; (c) ten thousand
idle long polls. Exit code 1 when a check fails.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.checks import Check, against, conclude, holds
from benchmarks.load.fleet import run_fleet
from benchmarks.load.idle import allow_files, idle_polls
from benchmarks.load.prepared import CAMPAIGN, Device, Serving, fill, result, serving
from benchmarks.load.replay import Tally, replay
from searcher.cli.options import print_table
from searcher.client.http import CoordinatorClient
from searcher.ledger.read_only import open_ledger
from searcher.local.process_tree import build_agent
from searcher.spec.recipe import Recipe, Step

GENERATOR_CORE, SERVER_CORE = 0, 1
SAMPLES = 200
HALF_TIMES = 3
"""Half the load lasts so many times as long: a thousand trials in a minute are far more than any
campaign asks, and in a third of one the campaign would be the load."""
TRIALS = 1000


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def throughput(directory: Path, connections: int, seconds: float) -> list[Check]:
    """The highest load, then half of it while a campaign asks; all of it is in the ledger.

        started | settled | highest, as fast as the answers come | settled | half, each at its time
    """
    jobs_each = max(int(2.5 * seconds * 1500 / connections), 10)
    print(f"preparing {connections} devices with {jobs_each} jobs each ...", flush=True)
    devices = fill(directory, connections, jobs_each)
    os.sched_setaffinity(0, {GENERATOR_CORE})
    tallies: list[tuple[Tally, float, float, float, int]] = []
    with serving(directory, SERVER_CORE) as served:
        for what in ("most", "half"):
            rate = None if what == "most" else tallies[0][1] / 2
            served.settle()
            length_s = seconds if rate is None else HALF_TIMES * seconds
            tallies.append(_load(served, devices, length_s, rate))
    os.sched_setaffinity(0, {GENERATOR_CORE, SERVER_CORE})
    (most, most_rate, most_cpu_s, _, _), (half, _, _, _, asked) = tallies
    print_table(f"(b) {connections} connections, results of {SAMPLES} samples", (
        "load", "cycles/s", "coordinator CPU per cycle", "its judge's", "lease p50",
        "lease p99"), [
        (name, f"{rate:.0f}", f"{cpu_s / tally.cycles * 1e3:.3f} ms",
         f"{judge_s / tally.cycles * 1e3:.3f} ms",
         f"{quantile(tally.lease_s, 0.5) * 1e3:.1f} ms",
         f"{quantile(tally.lease_s, 0.99) * 1e3:.1f} ms")
        for name, (tally, rate, cpu_s, judge_s, _) in zip(
            ("highest", "half, a campaign asks"), tallies, strict=True)])
    print("Bounded by: one core, which the coordinator's event loop (SQLite, HTTP) shares with its "
          "judge and the campaign's search.")
    return [
        against("(b) coordinator CPU per cycle", most_cpu_s / most.cycles * 1e3, "<=", 1, " ms"),
        against("(b) p99 of a lease answer at half load", quantile(half.lease_s, 0.99) * 1e3, "<",
                100, " ms", 1),
        holds("(b) trials that asked meanwhile", asked >= TRIALS, str(asked), f">= {TRIALS}"),
        *_stored(directory, most, half)]


def _load(served: Serving, devices: list[Device], seconds: float,
          cycles_per_s: float | None) -> tuple[Tally, float, float, float, int]:
    """Tally, cycles per second, CPU seconds of the coordinator and of its judge, and trials asked
    beside it."""
    place, tally = urlsplit(served.url), Tally()
    asked: list[int] = []
    asking = threading.Thread(target=_ask, args=(served, seconds, asked))
    if cycles_per_s is not None:
        asking.start()
    before_s, judge_s, began_s = served.cpu_s(), served.judge_cpu_s(), time.monotonic()
    asyncio.run(replay(place.hostname or "", place.port or 0, devices, result(SAMPLES), seconds,
                       cycles_per_s, tally))
    took_s, cpu_s = time.monotonic() - began_s, served.cpu_s() - before_s
    judge_s = served.judge_cpu_s() - judge_s
    if cycles_per_s is not None:
        asking.join()
    return tally, tally.cycles / took_s, cpu_s, judge_s, len(asked)


def _ask(served: Serving, seconds: float, asked: list[int]) -> None:
    """A campaign of a thousand trials, spread over the time: created and told."""
    with CoordinatorClient(served.url, served.token) as client:
        began_s = time.monotonic()
        for number in range(TRIALS):
            time.sleep(max(began_s + number * 0.9 * seconds / TRIALS - time.monotonic(), 0))
            recipe = Recipe((Step.of("svd", "model", {"rank": number + 1}),))
            trial = client.create_trial(CAMPAIGN, "device-00000", recipe.hash, recipe.as_list())
            client.tell_trial(trial["id"], "complete", values={"accuracy": 0.9})
            asked.append(trial["id"])


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
    parser.add_argument("--dir", type=Path, help="keep the ledgers here (default: nowhere)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load of (b)")
    parser.add_argument("--connections", type=int, default=1000, help="of (b)")
    parser.add_argument("--polls", type=int, default=10_000, help="of (c)")
    parser.add_argument("--agents", type=int, default=100, help="of (a)")
    arguments = parser.parse_args()
    allow_files(65_536)
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="fleetfront-load-") as scratch:
        root = arguments.dir or Path(scratch)
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
