"""The faults themselves: signals, clock, disk; those of the wire are handed to the proxy."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Coroutine, Sequence

import psutil

from benchmarks.chaos.clock import Clock
from benchmarks.chaos.disk import SmallDisk, forbid_growth
from benchmarks.chaos.house import BUILDER_TTL_S, DEVICE_TTL_S, House, Post
from benchmarks.chaos.plan import JUMP, KILL
from benchmarks.chaos.proxy import Proxy

LOOK_S = 0.02
SERVES_WITHIN_S = 20.0
FOUND_WITHIN_S = 4.0
FROZEN_S = (1.1 * max(DEVICE_TTL_S, BUILDER_TTL_S), 1.5 * max(DEVICE_TTL_S, BUILDER_TTL_S))
FULL_S, READ_ONLY_S = (0.2, 1.2), (0.2, 1.5)
JUMP_S = 3 * 3600.0
DURING_START = 0.1
"""Share of the coordinator's kills that do not wait until it serves."""
SHORTEST_LIFE_S, LONGEST_LIFE_S = 0.1, 1.5
WIRE_AHEAD = 6
PACE, LONGEST_PAUSE_S = 0.4, 0.5
PROGRAMS = {"builder": "benchmarks.chaos.builder"}
"""Children of the coordinator, by their module."""


class Chaos:
    """Injects what it is told, one at a time, and counts what has really happened."""

    def __init__(self, house: House, proxy: Proxy, disk: SmallDisk, clock: Clock,
                 draw: random.Random) -> None:
        self.house, self.proxy, self.disk, self.clock = house, proxy, disk, clock
        self._draw = draw
        self.injected: Counter[str] = Counter()
        self.started_s: list[float] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def on_processes(self, faults: Sequence[str], until_s: float) -> None:
        """All of ``faults``, spread over the time until ``until_s`` (monotonic). One that does not
        succeed (there was nothing to hit) is tried again later."""
        left = deque(faults)
        while left and (now_s := time.monotonic()) < until_s:
            await asyncio.sleep(self._pause_s((until_s - now_s) / len(left)))
            fault = left.popleft()
            if await self._inject(fault):
                self.injected[fault] += 1
            else:
                left.append(fault)

    async def on_coordinator(self, kills: int, until_s: float) -> None:
        """SIGKILL, again and again: the time that is left is shared by the lives that are left."""
        while kills and (now_s := time.monotonic()) < until_s:
            share_s = (until_s - now_s) / kills
            if self._draw.random() > DURING_START and await self.serving():
                lives_s = min(share_s - (time.monotonic() - now_s), LONGEST_LIFE_S)
                await asyncio.sleep(max(lives_s, SHORTEST_LIFE_S)
                                    * min(self._draw.expovariate(1.0), 2.0))
            if await self._kill_coordinator():
                self.injected[KILL] += 1
                kills -= 1
            else:
                await asyncio.sleep(LOOK_S)

    async def on_wire(self, faults: Sequence[str], until_s: float) -> None:
        """The same for faults that the next requests meet."""
        left = deque(faults)
        while left and (now_s := time.monotonic()) < until_s:
            if self.proxy.waiting >= WIRE_AHEAD:
                await asyncio.sleep(LOOK_S)
                continue
            self.proxy.arm(left.popleft())
            await asyncio.sleep(self._pause_s((until_s - now_s) / (1 + len(left))))
        while self.proxy.waiting and time.monotonic() < until_s:
            await asyncio.sleep(LOOK_S)

    def _pause_s(self, share_s: float) -> float:
        """Before the next fault; faults take time themselves, so only part of their share."""
        return self._draw.expovariate(1.0) * min(share_s * PACE, LONGEST_PAUSE_S)

    async def _inject(self, fault: str) -> bool:
        how, _, who = fault.partition(" ")
        if how == "SIGKILL":
            return await self._hit(who, signal.SIGKILL)
        if how == "SIGSTOP":
            return await self._hit(who, signal.SIGSTOP)
        if fault == JUMP:
            self.clock.jump_to(self._draw.uniform(-JUMP_S, JUMP_S))
            return True
        if fault == "disk full":
            return await self._fill_disk()
        return await self._read_only()

    async def serving(self) -> bool:
        """Wait until the coordinator serves."""
        ends_s = time.monotonic() + SERVES_WITHIN_S
        while self.house.upstream() is None:
            if time.monotonic() > ends_s:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    async def _kill_coordinator(self) -> bool:
        post = self.house.coordinator
        if not post.alive or post.process is None:
            return False
        post.signal(signal.SIGKILL)
        killed = post.process.wait() == -signal.SIGKILL
        self.house.tend()
        self._until_done(self._clocked(time.monotonic()))
        return killed

    async def _clocked(self, began_s: float) -> None:
        process = self.house.coordinator.process
        if await self.serving() and self.house.coordinator.process is process:
            self.started_s.append(time.monotonic() - began_s)

    def _until_done(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hit(self, who: str, number: signal.Signals) -> bool:
        """One process of the kind, as soon as there is one; a frozen one thaws by itself."""
        ends_s = time.monotonic() + FOUND_WITHIN_S
        while not (found := self._of_kind(who)):
            if time.monotonic() > ends_s:
                return False
            await asyncio.sleep(LOOK_S)
        victim = self._draw.choice(found)
        try:
            victim.send_signal(number)
        except psutil.NoSuchProcess:
            return False
        if number == signal.SIGSTOP:
            self._until_done(_thaw(victim, self._draw.uniform(*FROZEN_S)))
        return True

    def _of_kind(self, who: str) -> list[psutil.Process]:
        house = self.house
        if who in PROGRAMS:
            return [child for child in house.children(house.coordinator)
                    if _runs(child, PROGRAMS[who])]
        if who == "child":
            return [c for agent in house.agents.values() for c in house.children(agent)]
        if who == "agent":
            return [p for agent in house.agents.values() if (p := _process(agent))]
        post = house.search if who == "search" else house.coordinator
        return [p for p in [_process(post)] if p] if post else []

    async def _fill_disk(self) -> bool:
        """While it is full nothing more can be stored; what was acknowledged stays."""
        if not self.disk.mounted:
            return await self._writes_fail(self._draw.uniform(*FULL_S))
        self.disk.fill()
        await asyncio.sleep(self._draw.uniform(*FULL_S))
        self.disk.free()
        return True

    async def _read_only(self) -> bool:
        """Every other time under a coordinator that runs; else it finds its folder read-only when
        it starts, and cannot serve."""
        if not self.disk.mounted or self.injected["ledger read-only"] % 2 == 0:
            return await self._writes_fail(self._draw.uniform(*READ_ONLY_S))
        post = self.house.coordinator
        post.wanted = False
        post.signal(signal.SIGKILL)
        if post.process is not None:
            post.process.wait()
        took = self.disk.read_only(True)
        post.wanted = True
        await asyncio.sleep(self._draw.uniform(*READ_ONLY_S))
        while took and not self.disk.read_only(False):
            await asyncio.sleep(LOOK_S)
        return took

    async def _writes_fail(self, seconds: float) -> bool:
        if not await self.serving():
            return False
        post = self.house.coordinator
        process = _process(post)
        if process is None:
            return False
        forbid_growth([process], True)
        await asyncio.sleep(seconds)
        forbid_growth([process, *self.house.children(post)], False)
        return True

    async def calm(self) -> None:
        """End all that still disturbs."""
        self.proxy.disarm()
        await asyncio.gather(*self._tasks)
        self.disk.free()


async def _thaw(victim: psutil.Process, seconds: float) -> None:
    await asyncio.sleep(seconds)
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.send_signal(signal.SIGCONT)


def _process(post: Post) -> psutil.Process | None:
    if not post.alive or post.process is None:
        return None
    try:
        return psutil.Process(post.process.pid)
    except psutil.NoSuchProcess:
        return None


def _runs(process: psutil.Process, program: str) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return program in process.cmdline()
    return False
