"""Effect of each optimisation for load: CPU time per cycle with and without it.

    all | without one | all | without another | all | ... | bare      one of several rounds

Each server gets two loads: ``AGENTS`` connections with one cycle per second, and ``CONNECTIONS`` in
a closed loop. A cycle is lease, heartbeat and result. CPU time includes the coordinator and its
child processes. It is compared with the runs with all optimisations immediately before and after,
which reduces the influence of other work on the machine. An optimisation that saves less than 20 %
in both loads does not justify its code.
"""

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.checks import Check, against, holds
from benchmarks.load.prepared import Device, Serving, bare, fill, result, started
from benchmarks.load.replay import Tally, replay
from benchmarks.load.switched_off import SWITCHES, WITHOUT
from searcher.cli.options import print_table

AGENTS, AGENT_CYCLES_PER_S = 100, 100.0
CONNECTIONS = 1000
SAMPLES = 200
MOST_TIMES_BARE = 4.0
MIN_SAVING = 0.2
GENERATOR_CORE, SERVER_CORE = 0, 1
BARE, ALL = "bare server", "all"


@dataclass(frozen=True)
class Figures:
    """Results of one load on one server: CPU time per cycle and p99 of a lease answer, in ms."""

    cpu_ms: float
    helpers_ms: float
    cycles_per_s: float
    p99_ms: float
    refused: int


@dataclass(frozen=True)
class Run:
    """Results of both loads on one server."""

    name: str
    agents: Figures
    connections: Figures


def loaded(served: Serving, devices: Sequence[Device], seconds: float,
           cycles_per_s: float | None) -> Figures:
    place, tally = urlsplit(served.url), Tally()
    before_s, helpers_s, began_s = served.cpu_s(), served.helpers_cpu_s(), time.monotonic()
    asyncio.run(replay(place.hostname or "", place.port or 0, devices, result(SAMPLES), seconds,
                       cycles_per_s, tally))
    took_s = time.monotonic() - began_s
    cycles = max(tally.cycles, 1)
    helpers_ms = (served.helpers_cpu_s() - helpers_s) / cycles * 1e3
    return Figures((served.cpu_s() - before_s) / cycles * 1e3 + helpers_ms, helpers_ms,
                   cycles / took_s, tally.lease_ms(0.99),
                   len(tally.refused) + tally.idle)


def measured(name: str, template: Path, devices: Sequence[Device], seconds: float) -> Run:
    """Runs both loads, one after the other, against a server on a copy of the ledger."""
    with tempfile.TemporaryDirectory(dir=template.parent) as scratch:
        folder = Path(scratch) / "lab"
        if name == BARE:
            server = bare(folder, SERVER_CORE)
        else:
            shutil.copytree(template, folder)
            server = started(folder, SERVER_CORE, [
                sys.executable, "-m", "benchmarks.load.switched_off", "--dir", str(folder),
                "--builders", "0"], {WITHOUT: "" if name == ALL else name})
        with server as served:
            served.settle()
            few = loaded(served, devices[:AGENTS], seconds, AGENT_CYCLES_PER_S)
            many = loaded(served, devices, seconds, None)
    run = Run(name, few, many)
    print(f"{name:24} {AGENTS} agents: {few.cpu_ms:.3f} ms ({few.helpers_ms:.3f} of helpers), "
          f"p99 {few.p99_ms:.1f} ms | {len(devices)} connections: {many.cpu_ms:.3f} ms "
          f"({many.helpers_ms:.3f} of helpers), p99 {many.p99_ms:.0f} ms, "
          f"{many.cycles_per_s:.0f}/s | refused or idle {few.refused + many.refused}", flush=True)
    return run


def compare(root: Path, names: Sequence[str], rounds: int, seconds: float) -> list[Check]:
    """Prints the table for ``names`` (empty: all); checks the bound and that no request failed."""
    unknown = sorted(set(names) - set(SWITCHES))
    if unknown:
        raise SystemExit(f"Unknown mechanisms: {', '.join(unknown)}. Known: {', '.join(SWITCHES)}.")
    template = root / "template"
    print(f"preparing {CONNECTIONS} devices ...", flush=True)
    devices = fill(template, CONNECTIONS, int(seconds * 3) + 8)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {GENERATOR_CORE})
    runs: list[Run] = []
    try:
        for _ in range(rounds):
            for name in (BARE, *(names or SWITCHES)):
                runs += [measured(ALL, template, devices, seconds),
                         measured(name, template, devices, seconds)]
        runs.append(measured(ALL, template, devices, seconds))
    finally:
        os.sched_setaffinity(0, cores)
    _print(runs)
    return checks_of(runs)


def _print(runs: Sequence[Run]) -> None:
    rows = []
    for name in dict.fromkeys(run.name for run in runs if run.name != ALL):
        places = [at for at, run in enumerate(runs) if run.name == name]
        beside = [runs[at + step] for at in places for step in (-1, 1)]
        without = [runs[at] for at in places]
        few = _pair([run.agents for run in beside], [run.agents for run in without])
        many = _pair([run.connections for run in beside], [run.connections for run in without])
        verdict = "" if name == BARE else (
            "a fifth" if max(few[2], many[2]) >= MIN_SAVING else "less")
        rows.append((name, *few[0], *many[0], *few[1], *many[1], verdict))
    print_table(
        f"CPU in ms per cycle and p99 of a lease answer in ms, {AGENTS} agents and {CONNECTIONS} "
        "connections; with all mechanisms, without one, and the difference",
        ("without", f"{AGENTS}: all", "without", "more", f"{CONNECTIONS}: all", "without", "more",
         f"{AGENTS}: p99", "without", f"{CONNECTIONS}: p99", "without", ""), rows)


def _pair(beside: Sequence[Figures], without: Sequence[Figures]) -> tuple[
        tuple[str, str, str], tuple[str, str], float]:
    """Columns of CPU time, columns of p99, and the relative increase of CPU time without."""
    with_ms = statistics.mean(one.cpu_ms for one in beside)
    without_ms = statistics.mean(one.cpu_ms for one in without)
    return ((f"{with_ms:.3f}", f"{without_ms:.3f}", f"{without_ms / with_ms - 1:+.0%}"),
            (f"{statistics.median(one.p99_ms for one in beside):.1f}",
             f"{statistics.median(one.p99_ms for one in without):.1f}"), without_ms / with_ms - 1)


def checks_of(runs: Sequence[Run]) -> list[Check]:
    """Checks the bound of each load, and that every request was served."""
    def mean_ms(name: str, load: str) -> float:
        return statistics.mean(
            (run.agents if load == "agents" else run.connections).cpu_ms
            for run in runs if run.name == name)

    failed = sum(run.agents.refused + run.connections.refused for run in runs)
    return [
        *(against(f"CPU per cycle, {mean_ms(ALL, load):.3f} ms, over {mean_ms(BARE, load):.3f} ms "
                  f"of a bare server, {count} {load}", mean_ms(ALL, load) / mean_ms(BARE, load),
                  "<=", MOST_TIMES_BARE, "x", 2)
          for load, count in (("agents", AGENTS), ("connections", CONNECTIONS))),
        holds("requests refused or idle", failed == 0, str(failed), "0")]
