"""Detection rate of injected disturbances, and rate of false alarms in undisturbed runs.

    real       a busy core | SIGSTOP | a CPU quota (cgroup)      onnxruntime, in child processes
    synthetic  a step in the clock | a throttle flag | a drift   a simulated machine and its /sys

All runs use ``agents.jobs.measure.run_measure``, as a lease does. A disturbance counts as detected
if the measurement has a reason or warning of a kind that it may cause. An undisturbed run is a
false alarm if it has any reason or warning except ``busy``: that is the gate's result on a machine
that was not quiet, and is counted separately. Other warnings of real undisturbed runs may be
correct; they are printed.
"""

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agents.child.request import ChildRequest
from agents.jobs.base import JobContext
from agents.jobs.measure import run_measure
from agents.measurement.child_process import ProcessChild
from agents.platform.sysfs import SystemTree
from agents.protocol import MeasurePayload, decode
from benchmarks.measurement.disturbances import BusyCore, Quota, Stop
from benchmarks.measurement.models import chain
from benchmarks.measurement.synthetic import Board, SyntheticChild, clock_step, drift, throttle
from searcher.artifacts.store import place_artifact
from searcher.cli.options import print_table
from searcher.spec.measurement_plan import plan_of

PLAN = {"min_s": 1.5, "max_s": 1.5}
CHANGED = ("drift", "no steady state", "busy")
KINDS: dict[str, tuple[str, ...]] = {
    "busy core": ("busy machine", "interrupted", "stalled", *CHANGED),
    "SIGSTOP": ("interrupted", "stalled"),
    "CPU quota": ("interrupted", "stalled"),
    "clock step": ("clock drop", *CHANGED),
    "throttle flag": ("throttled",),
    "slow drift": CHANGED,
}
REAL: dict[str, Callable[[random.Random], Any]] = {
    "busy core": BusyCore, "SIGSTOP": Stop, "CPU quota": Quota}
SYNTHETIC: dict[str, Callable[[random.Random], Any]] = {
    "clock step": clock_step, "throttle flag": throttle, "slow drift": drift}


def run(arguments: argparse.Namespace) -> bool:
    drawn = random.Random(arguments.seed)
    names = [*REAL, *SYNTHETIC]
    if not Quota.possible():
        print("CPU quota: not tested, because no cgroup can be created here.")
        names.remove("CPU quota")
    disturbed = [names[n % len(names)] for n in range(arguments.trials)]
    quiet = ["quiet, real", "quiet, synthetic"] * (arguments.trials // 2)
    order = [*disturbed, *quiet]
    drawn.shuffle(order)
    reported: dict[str, list[list[str]]] = {name: [] for name in order}
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        bench = Bench(Path(scratch))
        for name in order:
            reported[name].append(bench.trial(name, drawn))
    return _report(reported)


def kinds(document: Mapping[str, Any]) -> list[str]:
    """Kinds of all reasons and warnings of the single measurement, except ``unpinned``."""
    (one,) = document["measurements"]
    found = {text.partition(":")[0] for text in (*one["reasons"], *one["warnings"])}
    return sorted(found - {"unpinned"})


class Bench:
    """Measures one model beside itself, with and without disturbances."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        content = chain(folder / "model.onnx", 80).read_bytes()
        placed = place_artifact(folder / "artifacts", content)
        self._paths = {placed.name: str(placed)}
        file = {"sha256": placed.name, "size_bytes": len(content)}
        self._payload = {
            "reference": file, "candidates": [file], "runtime": "onnxruntime",
            "options": {"threads": 1, "graph_level": "all", "batch": 1}, "input_seed": 0,
            "plan": {**plan_of("quick")._asdict(), **PLAN}, "quiet_level_s": None, "attempt": 1}

    def trial(self, name: str, drawn: random.Random) -> list[str]:
        """Kinds of reasons and warnings of one measurement under the disturbance ``name``."""
        if name in SYNTHETIC or name == "quiet, synthetic":
            board = Board(self._folder / "root", drawn.randrange(2**31))
            if name in SYNTHETIC:
                SYNTHETIC[name](drawn).apply(board)
            return kinds(run_measure(self._request(), JobContext(
                self._paths, lambda runtime, request: SyntheticChild(board, request),
                SystemTree(str(board.root)), clock=board.clock, wait=board.wait)))
        disturbance = REAL[name](drawn) if name in REAL else None
        children: list[ProcessChild] = []

        def start_child(runtime: str, request: ChildRequest) -> ProcessChild:
            children.append(ProcessChild(runtime, request))
            if disturbance is not None:
                threading.Thread(target=_disturb, args=(disturbance, children[-1]),
                                 daemon=True).start()
            return children[-1]

        try:
            return kinds(run_measure(
                self._request(), JobContext(self._paths, start_child, SystemTree())))
        finally:
            if disturbance is not None:
                disturbance.end()

    def _request(self) -> MeasurePayload:
        return decode(MeasurePayload, self._payload)


def _disturb(disturbance: Any, child: ProcessChild) -> None:
    """Begins the disturbance when the child times its first block."""
    while child.progress().opening and child.ended() is None:
        time.sleep(0.005)
    disturbance.begin(child._process.pid)


def _report(reported: Mapping[str, list[list[str]]]) -> bool:
    rows, found, disturbed, alarms, quiet, busy = [], 0, 0, 0, 0, 0
    for name in sorted(reported):
        trials = reported[name]
        counts = Counter(kind for one in trials for kind in one)
        expected = set(KINDS.get(name, ()))
        hits = sum(bool(expected & set(one)) for one in trials) if expected else sum(
            bool(set(one) - {"busy"}) for one in trials)
        if expected:
            found, disturbed = found + hits, disturbed + len(trials)
        else:
            alarms, quiet = alarms + hits, quiet + len(trials)
            busy += sum(one == ["busy"] for one in trials)
        rows.append((name, f"{hits} of {len(trials)}",
                     ", ".join(f"{kind} {count}" for kind, count in counts.most_common())))
    print_table("disturbed runs: detected; quiet runs: false alarms",
                ("disturbance", "reported", "kinds reported, with the number of runs"), rows)
    print(f"detected {found} of {disturbed}; false alarms {alarms} of {quiet}, and {busy} of the "
          "quiet runs were busy")
    return found >= 0.99 * disturbed and alarms < 0.05 * quiet
