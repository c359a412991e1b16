"""Injects faults: signals, clock, disk. The proxy injects the faults of the wire."""

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
from benchmarks.chaos.plan import JUMP, KILL
from benchmarks.chaos.processes import BUILDER_TTL_S, DEVICE_TTL_S, ProcessGroup, Service
from benchmarks.chaos.proxy import Proxy

POLL_S = 0.02
SERVES_WITHIN_S = 20.0
FOUND_WITHIN_S = 4.0
STOPPED_S = (1.1 * max(DEVICE_TTL_S, BUILDER_TTL_S), 1.5 * max(DEVICE_TTL_S, BUILDER_TTL_S))
FULL_S, READ_ONLY_S = (0.2, 1.2), (0.2, 1.5)
JUMP_S = 3 * 3600.0
DURING_START = 0.1
"""Fraction of the coordinator's SIGKILLs that may hit it before it serves."""
SHORTEST_UPTIME_S, LONGEST_UPTIME_S = 0.1, 1.5
WIRE_AHEAD = 6
PACE, LONGEST_PAUSE_S = 0.4, 0.5
PROGRAMS = {"builder": "benchmarks.chaos.builder"}
"""Module of each kind of child process of the coordinator."""


class FaultInjector:
    """Injects planned faults and counts those that took effect, by kind, in ``injected``."""

    def __init__(self, processes: ProcessGroup, proxy: Proxy, disk: SmallDisk, clock: Clock,
                 draw: random.Random) -> None:
        self.processes, self.proxy, self.disk, self.clock = processes, proxy, disk, clock
        self._draw = draw
        self.injected: Counter[str] = Counter()
        self.started_s: list[float] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def on_processes(self, faults: Sequence[str], until_s: float) -> None:
        """Injects ``faults``, spread over the time until ``until_s`` (monotonic). A fault without a
        target process is tried again later."""
        left = deque(faults)
        while left and (now_s := time.monotonic()) < until_s:
            await asyncio.sleep(self._pause_s((until_s - now_s) / len(left)))
            fault = left.popleft()
            if await self._inject(fault):
                self.injected[fault] += 1
            else:
                left.append(fault)

    async def on_coordinator(self, kills: int, until_s: float) -> None:
        """Kills the coordinator ``kills`` times, spread over the time until ``until_s``."""
        while kills and (now_s := time.monotonic()) < until_s:
            share_s = (until_s - now_s) / kills
            if self._draw.random() > DURING_START and await self.serving():
                uptime_s = min(share_s - (time.monotonic() - now_s), LONGEST_UPTIME_S)
                await asyncio.sleep(max(uptime_s, SHORTEST_UPTIME_S)
                                    * min(self._draw.expovariate(1.0), 2.0))
            if await self._kill_coordinator():
                self.injected[KILL] += 1
                kills -= 1
            else:
                await asyncio.sleep(POLL_S)

    async def on_wire(self, faults: Sequence[str], until_s: float) -> None:
        """Arms the proxy with ``faults``, which apply to the next matching requests."""
        left = deque(faults)
        while left and (now_s := time.monotonic()) < until_s:
            if self.proxy.waiting >= WIRE_AHEAD:
                await asyncio.sleep(POLL_S)
                continue
            self.proxy.arm(left.popleft())
            await asyncio.sleep(self._pause_s((until_s - now_s) / (1 + len(left))))
        while self.proxy.waiting and time.monotonic() < until_s:
            await asyncio.sleep(POLL_S)

    def _pause_s(self, share_s: float) -> float:
        """Random pause before the next fault; below ``share_s``, because faults take time too."""
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
        """Waits until the coordinator serves; False after ``SERVES_WITHIN_S``."""
        ends_s = time.monotonic() + SERVES_WITHIN_S
        while self.processes.upstream() is None:
            if time.monotonic() > ends_s:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _kill_coordinator(self) -> bool:
        service = self.processes.coordinator
        if not service.alive or service.process is None:
            return False
        service.signal(signal.SIGKILL)
        killed = service.process.wait() == -signal.SIGKILL
        self.processes.restart_dead()
        self._until_done(self._time_start(time.monotonic()))
        return killed

    async def _time_start(self, began_s: float) -> None:
        process = self.processes.coordinator.process
        if await self.serving() and self.processes.coordinator.process is process:
            self.started_s.append(time.monotonic() - began_s)

    def _until_done(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hit(self, who: str, number: signal.Signals) -> bool:
        """Signals one process of the kind, waiting for one to exist; SIGCONT follows a SIGSTOP."""
        ends_s = time.monotonic() + FOUND_WITHIN_S
        while not (found := self._of_kind(who)):
            if time.monotonic() > ends_s:
                return False
            await asyncio.sleep(POLL_S)
        target = self._draw.choice(found)
        try:
            target.send_signal(number)
        except psutil.NoSuchProcess:
            return False
        if number == signal.SIGSTOP:
            self._until_done(_continue_after(target, self._draw.uniform(*STOPPED_S)))
        return True

    def _of_kind(self, who: str) -> list[psutil.Process]:
        processes = self.processes
        if who in PROGRAMS:
            return [child for child in processes.children(processes.coordinator)
                    if _runs(child, PROGRAMS[who])]
        if who == "child":
            return [c for agent in processes.agents.values() for c in processes.children(agent)]
        if who == "agent":
            return [p for agent in processes.agents.values() if (p := _process(agent))]
        service = processes.search if who == "search" else processes.coordinator
        return [p for p in [_process(service)] if p] if service else []

    async def _fill_disk(self) -> bool:
        """Fills the disk for a random time. Writes fail meanwhile; acknowledged ones must stay."""
        if not self.disk.mounted:
            return await self._writes_fail(self._draw.uniform(*FULL_S))
        self.disk.fill()
        await asyncio.sleep(self._draw.uniform(*FULL_S))
        self.disk.free()
        return True

    async def _read_only(self) -> bool:
        """Alternates two cases: writes of the running coordinator fail, or the coordinator starts
        on a read-only folder and cannot serve."""
        if not self.disk.mounted or self.injected["ledger read-only"] % 2 == 0:
            return await self._writes_fail(self._draw.uniform(*READ_ONLY_S))
        service = self.processes.coordinator
        service.wanted = False
        service.signal(signal.SIGKILL)
        if service.process is not None:
            service.process.wait()
        took = self.disk.read_only(True)
        service.wanted = True
        await asyncio.sleep(self._draw.uniform(*READ_ONLY_S))
        while took and not self.disk.read_only(False):
            await asyncio.sleep(POLL_S)
        return took

    async def _writes_fail(self, seconds: float) -> bool:
        if not await self.serving():
            return False
        service = self.processes.coordinator
        process = _process(service)
        if process is None:
            return False
        forbid_growth([process], True)
        await asyncio.sleep(seconds)
        forbid_growth([process, *self.processes.children(service)], False)
        return True

    async def stop(self) -> None:
        """Removes all remaining faults."""
        self.proxy.disarm()
        await asyncio.gather(*self._tasks)
        self.disk.free()


async def _continue_after(target: psutil.Process, seconds: float) -> None:
    await asyncio.sleep(seconds)
    with contextlib.suppress(psutil.NoSuchProcess):
        target.send_signal(signal.SIGCONT)


def _process(service: Service) -> psutil.Process | None:
    if not service.alive or service.process is None:
        return None
    try:
        return psutil.Process(service.process.pid)
    except psutil.NoSuchProcess:
        return None


def _runs(process: psutil.Process, program: str) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return program in process.cmdline()
    return False
