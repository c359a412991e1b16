"""One run: everything is started, disturbed, left alone until the queue is empty, and stopped."""

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
from benchmarks.chaos.customer import PLAN, Customer
from benchmarks.chaos.disk import SmallDisk
from benchmarks.chaos.house import LOCAL, House
from benchmarks.chaos.injecting import Chaos
from benchmarks.chaos.journal import Journal
from benchmarks.chaos.keeper import Keeper
from benchmarks.chaos.proxy import FAULTS, Proxy
from searcher.client.http import CoordinatorClient
from searcher.errors import FleetfrontError, LedgerError
from searcher.ledger.read_only import open_ledger
from searcher.spec.campaign import from_document

CUSTOMER, SEARCH = "of-the-customer", "of-the-search"
"""Secrets that the proxy exchanges for the operator's token."""
PATIENCE_S = 600.0
TEND_S, KEEPER_S = 0.05, 5.0
READY_WITHIN_S = 120.0
CANDIDATES = 24
STRATEGIES = ["channel_pruning", "magnitude_pruning", "clustering", "svd", "int8"]


@dataclass(frozen=True)
class Story:
    """What happened: faults by kind, seconds, and how the coordinator started; ``emptied`` says
    whether the queue was empty and the search done at the end."""

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
    """``seconds`` is how long faults may go on, ``patience_s`` how long the queue may then take to
    empty; ``program`` is the coordinator's module."""

    faults: int
    seconds: float
    seed: int
    program: str
    patience_s: float

    @property
    def candidates(self) -> int:
        """Of one campaign: a search that starts takes seconds to load, a short run has few."""
        return min(max(self.faults // 10, 8), CANDIDATES)


class Campaigns:
    """One campaign after the other: as soon as one has ended, the next is searched."""

    def __init__(self, house: House, client: CoordinatorClient, candidates: int) -> None:
        self._house, self.client, self._candidates = house, client, candidates
        self._number = -1
        self.more = True
        self.ended: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return f"chaos-{self._number}"

    def begin(self) -> None:
        """Blocks until the campaign is submitted."""
        self._number += 1
        self.client.create_campaign(spec(self.name, self._number, self._candidates))
        self._house.seek(self.name, SEARCH)

    async def follow(self) -> None:
        """Restart a search that died, and begin the next campaign when one has ended."""
        search = self._house.search
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
        self._house.start(search)

    @property
    def done(self) -> bool:
        return self._house.search is None or not self._house.search.wanted


def spec(name: str, seed: int, candidates: int) -> dict[str, Any]:
    """A small campaign on this machine's own device."""
    return from_document({
        "name": name, "task": "lenet5-mnist", "seed": seed, "builders": 1,
        "budget": {"candidates": candidates, "wall_minutes": 60},
        "constraints": {"accuracy_drop": 0.06},
        "measurement": {"plan": {k: v for k, v in PLAN.items() if k != "name"}},
        "devices": [{"profile": LOCAL}],
        "search": {"sampler": "random", "strategies": STRATEGIES},
    }).as_dict()


async def run(folder: Path, settings: Settings) -> Story:
    """The disk stays mounted: whoever audits closes it."""
    disk = SmallDisk(folder / "disk")
    try:
        return await _run(folder, settings, disk)
    except BaseException:
        disk.close()
        raise


async def _run(folder: Path, settings: Settings, disk: SmallDisk) -> Story:
    draw, clock = random.Random(settings.seed), Clock(folder)
    data = disk.folder / "data"
    with Journal(folder / "journal") as journal:
        async with _wired(folder, data, journal, draw, clock, settings) as (house, proxy):
            client = CoordinatorClient(house.via, CUSTOMER, retry_for_s=PATIENCE_S)
            campaigns = Campaigns(house, client, settings.candidates)
            customer = Customer(CoordinatorClient(house.via, CUSTOMER, retry_for_s=PATIENCE_S),
                                data / "artifacts")
            keeper = Keeper(CoordinatorClient(house.via, CUSTOMER, retry_for_s=PATIENCE_S))
            looking = asyncio.gather(
                _again_and_again(house.tend), _again_and_again(campaigns.follow),
                _again_and_again(lambda: asyncio.to_thread(keeper.release), KEEPER_S))
            await _ready(house, campaigns)
            customer.start()
            chaos = Chaos(house, proxy, disk, clock, draw)
            began_s = time.monotonic()
            await _disturb(chaos, settings)
            disturbed_s = time.monotonic() - began_s
            campaigns.more = False
            await asyncio.to_thread(customer.stop)
            emptied = await _empty(house, campaigns, data, settings.patience_s)
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
    return Story(
        chaos.injected + proxy.injected, disturbed_s, time.monotonic() - began_s - disturbed_s,
        emptied, Counter({post.name: post.starts for post in house.posts()}), chaos.started_s,
        folder / "journal", data, disk, clock.works,
        (f"jobs submitted by the customer: {customer.submitted}",
         f"searches that ended: {dict(campaigns.ended)}",
         f"devices released from quarantine: {dict(keeper.released) or 'none'}",
         f"requests forwarded: {journal.written}"))


@asynccontextmanager
async def _wired(folder: Path, data: Path, journal: Journal, draw: random.Random, clock: Clock,
                 settings: Settings) -> AsyncIterator[tuple[House, Proxy]]:
    holder: list[House] = []
    proxy = Proxy(lambda: holder[0].upstream() if holder else None, journal, draw,
                  {CUSTOMER: "customer", SEARCH: "search"})
    via_port = await proxy.start()
    (data / "artifacts").mkdir(parents=True, exist_ok=True)
    house = House(folder, data, _free_port(), via_port, settings.program, clock.environment)
    holder.append(house)
    try:
        yield house, proxy
    finally:
        await asyncio.to_thread(house.stop)
        await proxy.stop()


async def _again_and_again(look: Callable[[], Awaitable[None] | None],
                           every_s: float = TEND_S) -> None:
    """What looks after something must not wait for what another one looks after."""
    while True:
        with contextlib.suppress(FleetfrontError):
            done = look()
            if done is not None:
                await done
        await asyncio.sleep(every_s)


async def _ready(house: House, campaigns: Campaigns) -> None:
    """Devices enrolled, the first campaign's baseline measured: from there all can be disturbed."""
    client = campaigns.client
    await asyncio.to_thread(house.add_local, client)
    await asyncio.to_thread(house.add_boards, client)
    await _until(house.enrolled, READY_WITHIN_S)
    house.keep_secrets()
    await asyncio.to_thread(campaigns.begin)
    ends_s = time.monotonic() + READY_WITHIN_S
    while not (await asyncio.to_thread(client.campaign, campaigns.name)).search_states:
        if time.monotonic() > ends_s:
            raise SystemExit(f"No baseline within {READY_WITHIN_S:g} s: see {house.folder}/logs.")
        await asyncio.sleep(0.2)


async def _disturb(chaos: Chaos, settings: Settings) -> None:
    until_s = time.monotonic() + settings.seconds
    left_out = {plan.KILL} if chaos.clock.works else {plan.KILL, plan.JUMP}
    others = [kind for kind in plan.SHARES if kind not in left_out]
    await asyncio.gather(
        chaos.on_coordinator(plan.counts(settings.faults)[plan.KILL], until_s),
        chaos.on_processes(plan.order(settings.faults, settings.seed, others), until_s),
        chaos.on_wire(plan.order(settings.faults, settings.seed, FAULTS), until_s))
    await chaos.calm()


async def _empty(house: House, campaigns: Campaigns, data: Path, within_s: float) -> bool:
    """Whether everything ended by itself once it was left alone."""
    return await _until(lambda: campaigns.done and house.unsent() == 0 and unfinished(data) == 0,
                        within_s)


def unfinished(data: Path) -> int:
    """Jobs that are neither done nor given up; -1 while the ledger cannot be read."""
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
