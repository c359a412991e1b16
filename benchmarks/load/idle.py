"""Memory and CPU time of the coordinator per idle long poll."""

import asyncio
import resource
from collections.abc import Sequence
from urllib.parse import urlsplit

from agents import protocol
from benchmarks.checks import Check, against, holds
from benchmarks.load.prepared import Device, Serving
from benchmarks.load.replay import Connection, connect, request

POLL_S = 50.0
AT_ONCE = 200


def allow_files(count: int) -> None:
    """Raises the limit of open files of this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def idle_polls(served: Serving, devices: Sequence[Device]) -> list[Check]:
    """Holds one long poll per device and measures the coordinator."""
    before = served.resident_bytes()
    open_polls, answered, after, cpu_s = asyncio.run(_hold(served, devices))
    each = (after - before) / max(open_polls, 1)
    print(f"{open_polls} idle long polls: {after / 1e6:.0f} MB resident ({before / 1e6:.0f} MB "
          f"before), {each / 1e3:.1f} KB each; {cpu_s / 10:.2%} of a core for ten idle seconds. "
          "Limit: objects of uvicorn and asyncio per connection.")
    return [
        holds("(c) idle long polls held", open_polls == len(devices) and not answered,
              f"{open_polls} of {len(devices)}, {answered} answered early", "all, none"),
        against("(c) coordinator resident", after / 1e9, "<", 1, " GB", 3)]


async def _hold(served: Serving, devices: Sequence[Device]) -> tuple[int, int, int, float]:
    place = urlsplit(served.url)
    connections: list[Connection] = []
    for start in range(0, len(devices), AT_ONCE):
        connections += await asyncio.gather(*(
            connect(place.hostname or "", place.port or 0)
            for _ in devices[start:start + AT_ONCE]))
    body = protocol.encode(protocol.LeaseRequest(protocol.PROTOCOL_VERSION, POLL_S))
    polls = [asyncio.ensure_future(connection.ask(
        request("POST", "/v1/lease", device.secret, body)))
        for connection, device in zip(connections, devices, strict=True)]
    cpu_s = -1.0
    while cpu_s < 0 or served.cpu_s() - cpu_s > 0.2:  # until all requests are received
        cpu_s = served.cpu_s()
        await asyncio.sleep(1.0)
    before_s = served.cpu_s()
    await asyncio.sleep(10.0)
    used_s = served.cpu_s() - before_s
    answered = sum(poll.done() for poll in polls)
    resident = served.resident_bytes()
    for poll in polls:
        poll.cancel()
    for connection in connections:
        connection.close()
    return len(polls), answered, resident, used_s
