"""One run: start all processes, inject faults, wait until the queue is empty, stop."""

import asyncio
import contextlib
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos import plan
from benchmarks.chaos.clock import Clock
from benchmarks.chaos.disk import SmallDisk
from benchmarks.chaos.injector import FaultInjector
from benchmarks.chaos.journal import Journal
from benchmarks.chaos.processes import LOCAL, ProcessGroup
from benchmarks.chaos.proxy import FAULTS, Proxy
from benchmarks.chaos.quarantine import QuarantineRelease
from benchmarks.chaos.submitter import PLAN, JobSubmitter
from searcher.client.http import CoordinatorClient
from searcher.errors import FleetfrontError, LedgerError
from searcher.ledger.read_only import open_ledger
from searcher.spec.campaign import from_document

CLIENT, SEARCH = "placeholder-client", "placeholder-search"
"""Secrets that the proxy replaces by the operator's token."""
PATIENCE_S = 600.0
RESTART_S, RELEASE_S = 0.05, 5.0
READY_WITHIN_S = 120.0
CANDIDATES = 24
STRATEGIES = ["channel_pruning", "magnitude_pruning", "clustering", "svd", "int8"]


@dataclass(frozen=True)
class RunRecord:
    """Faults by kind, durations, and start times of the coordinator. ``emptied`` says whether the
    queue was empty and the search done at the end."""

    injected: Counter[str]
    disturbed_s: float
    calm_s: float
    emptied: bool
    starts: Counter[str]
    start_s: list[float]
    journal: Path
    data: Path
    disk: SmallDisk
    clock_works: bool
    notes: tuple[str, ...]

    @property
    def faults(self) -> int:
        return self.injected.total()


@dataclass(frozen=True)
class Settings:
    """``seconds`` limits the injection of faults, ``patience_s`` the time until the queue is empty;
    ``program`` is the coordinator's module."""

    faults: int
    seconds: float
    seed: int
    program: str
    patience_s: float

    @property
    def candidates(self) -> int:
        """Candidates per campaign. Short runs have few: a search takes seconds to start."""
        return min(max(self.faults // 10, 8), CANDIDATES)


class Campaigns:
    """Runs campaigns one after the other; a new one begins when the last has ended."""

    def __init__(self, processes: ProcessGroup, client: CoordinatorClient, candidates: int) -> None:
        self._processes, self.client, self._candidates = processes, client, candidates
        self._number = -1
        self.more = True
        self.ended: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return f"chaos-{self._number}"

    def begin(self) -> None:
        """Submits the next campaign (blocking)."""
        self._number += 1
        self.client.create_campaign(spec(self.name, self._number, self._candidates))
        self._processes.prepare_search(self.name, SEARCH)

    async def follow(self) -> None:
        """Restarts a search that died; begins the next campaign when one has ended."""
        search = self._processes.search
        if search is None or search.alive or not search.wanted:
            return
        if search.process is not None:
            self.ended[f"exit {search.process.returncode}"] += 1
            row = await asyncio.to_thread(self.client.campaign, self.name)
            if row.state in ("done", "failed"):
                search.wanted = False
                if self.more:
                    await asyncio.to_thread(self.begin)
                return
        self._processes.start(search)

    @property
    def done(self) -> bool:
        return self._processes.search is None or not self._processes.search.wanted


def spec(name: str, seed: int, candidates: int) -> dict[str, Any]:
    """Spec of a small campaign on this machine."""
    return from_document({
        "name": name, "task": "lenet5-mnist", "seed": seed, "builders": 1,
        "budget": {"candidates": candidates, "wall_minutes": 60},
        "constraints": {"quality_drop": 0.06},
        "measurement": {"plan": {k: v for k, v in PLAN.items() if k != "name"}},
        "devices": [{"profile": LOCAL}],
        "search": {"sampler": "random", "strategies": STRATEGIES},
    }).as_dict()


async def run(folder: Path, settings: Settings) -> RunRecord:
    """Runs once. The disk stays mounted for the audit; the caller closes it."""
    disk = SmallDisk(folder / "disk")
    try:
        return await _run(folder, settings, disk)
    except BaseException:
        disk.close()
        raise


async def _run(folder: Path, settings: Settings, disk: SmallDisk) -> RunRecord:
    draw, clock = random.Random(settings.seed), Clock(folder)
    data = disk.folder / "data"
    with Journal(folder / "journal") as journal:
        async with _wired(folder, data, journal, draw, clock, settings) as (processes, proxy):
            client = CoordinatorClient(processes.via, CLIENT, retry_for_s=PATIENCE_S)
            campaigns = Campaigns(processes, client, settings.candidates)
            submitter = JobSubmitter(
                CoordinatorClient(processes.via, CLIENT, retry_for_s=PATIENCE_S),
                data / "artifacts")
            quarantine = QuarantineRelease(
                CoordinatorClient(processes.via, CLIENT, retry_for_s=PATIENCE_S))
            supervision = asyncio.gather(
                _repeat(processes.restart_dead), _repeat(campaigns.follow),
                _repeat(lambda: asyncio.to_thread(quarantine.release), RELEASE_S))
            await _ready(processes, campaigns)
            submitter.start()
            injector = FaultInjector(processes, proxy, disk, clock, draw)
            began_s = time.monotonic()
            await _disturb(injector, settings)
            disturbed_s = time.monotonic() - began_s
            campaigns.more = False
            await asyncio.to_thread(submitter.stop)
            emptied = await _empty(processes, campaigns, data, settings.patience_s)
            supervision.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervision
    return RunRecord(
        injector.injected + proxy.injected, disturbed_s, time.monotonic() - began_s - disturbed_s,
        emptied, Counter({service.name: service.starts for service in processes.services()}),
        injector.started_s, folder / "journal", data, disk, clock.works,
        (f"jobs submitted by the client: {submitter.submitted}",
         f"searches that ended: {dict(campaigns.ended)}",
         f"devices released from quarantine: {dict(quarantine.released) or 'none'}",
         f"requests forwarded: {journal.written}"))


@asynccontextmanager
async def _wired(folder: Path, data: Path, journal: Journal, draw: random.Random, clock: Clock,
                 settings: Settings) -> AsyncIterator[tuple[ProcessGroup, Proxy]]:
    holder: list[ProcessGroup] = []
    proxy = Proxy(lambda: holder[0].upstream() if holder else None, journal, draw,
                  {CLIENT: "client", SEARCH: "search"})
    via_port = await proxy.start()
    (data / "artifacts").mkdir(parents=True, exist_ok=True)
    processes = ProcessGroup(
        folder, data, _free_port(), via_port, settings.program, clock.environment)
    holder.append(processes)
    try:
        yield processes, proxy
    finally:
        await asyncio.to_thread(processes.stop)
        await proxy.stop()


async def _repeat(call: Callable[[], Awaitable[None] | None], every_s: float = RESTART_S) -> None:
    """Calls ``call`` periodically. One task for each, so that a slow one delays no other."""
    while True:
        with contextlib.suppress(FleetfrontError):
            result = call()
            if result is not None:
                await result
        await asyncio.sleep(every_s)


async def _ready(processes: ProcessGroup, campaigns: Campaigns) -> None:
    """Enrols the devices and waits until the first campaign's baseline is measured."""
    client = campaigns.client
    await asyncio.to_thread(processes.add_local, client)
    await asyncio.to_thread(processes.add_boards, client)
    await _until(processes.enrolled, READY_WITHIN_S)
    processes.drop_enrolment_token()
    await asyncio.to_thread(campaigns.begin)
    ends_s = time.monotonic() + READY_WITHIN_S
    while not (await asyncio.to_thread(client.campaign, campaigns.name)).search_states:
        if time.monotonic() > ends_s:
            raise SystemExit(f"The baseline was not measured within {READY_WITHIN_S:g} s: see "
                             f"{processes.folder}/logs.")
        await asyncio.sleep(0.2)


async def _disturb(injector: FaultInjector, settings: Settings) -> None:
    until_s = time.monotonic() + settings.seconds
    left_out = {plan.KILL} if injector.clock.works else {plan.KILL, plan.JUMP}
    others = [kind for kind in plan.SHARES if kind not in left_out]
    await asyncio.gather(
        injector.on_coordinator(plan.counts(settings.faults)[plan.KILL], until_s),
        injector.on_processes(plan.order(settings.faults, settings.seed, others), until_s),
        injector.on_wire(plan.order(settings.faults, settings.seed, FAULTS), until_s))
    await injector.stop()


async def _empty(processes: ProcessGroup, campaigns: Campaigns, data: Path,
                 within_s: float) -> bool:
    """Whether all jobs and the search ended after the last fault."""
    return await _until(lambda: (campaigns.done and processes.undelivered() == 0
                                 and unfinished(data) == 0), within_s)


def unfinished(data: Path) -> int:
    """Number of queued and leased jobs; -1 while the ledger cannot be read."""
    try:
        with open_ledger(data / "ledger.db") as db:
            return int(db.execute("SELECT count(*) FROM jobs WHERE state IN ('queued', 'leased')")
                       .fetchone()[0])
    except LedgerError:
        return -1


async def _until(state: Callable[[], bool], within_s: float) -> bool:
    ends_s = time.monotonic() + within_s
    while not state():
        if time.monotonic() > ends_s:
            return False
        await asyncio.sleep(0.1)
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
