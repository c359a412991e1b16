"""Times of single nodes. They run in a child process of their own, because a profiler slows calls.

    open file, idle graphs | f f f i1 i1 j1 j1 | ... | open file and j with the profile | calls
                             at most LIMIT_S           at most CALLS calls or LIMIT_S
                             call_s, idle_call_s,      nodes, profiled_idle_s     copies
                             idle_node_s

The overhead of a call is measured with graphs whose nodes compute nothing, alternating with calls
of the file because the speed of a machine changes. The runtime's clock times the calls, the
system's clock the copies.
"""

import os
import shutil
import tempfile
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from agents.protocol import Copy, NodesMeasured, NodeTime
from agents.runtimes.base import PERF_COUNTER_NS, ModelRefused, NotProfiled, Runtime
from agents.timing.calls import NS, Run, median, time_block

CALLS, FEWEST_CALLS = 20, 3
ROUNDS, FEWEST_ROUNDS = 12, 3
BLOCK_S = 0.002
LIMIT_S = 0.5
IDLE_NODES = 17
KEPT_NODES = 64
"""Number of longest nodes that are reported singly; the others are merged by op and provider."""
COPIED_BYTES = (1 << 16, 1 << 20, 1 << 24)
COPIES = 9

Alive = Callable[[], None]


def measure_nodes(runtime: Runtime, path: str, options: Mapping[str, object], input_seed: int,
                  alive: Alive) -> NodesMeasured:
    """The node times of one file. ``alive`` is called before each call. If the runtime has no
    profiler, or the profiler fails, the result has a ``problem``."""
    folder = tempfile.mkdtemp(prefix="fleetfront-nodes-")
    try:
        idle = [_written(folder, runtime.idle_model(nodes)) for nodes in (1, IDLE_NODES)]
        files = [path, *(one for one in idle if one is not None)]
        times = _in_turn([runtime.open(one, options, input_seed).run for one in files],
                         runtime.clock_ns, alive)
        nodes, *resting = [_profiled(runtime, one, options, input_seed, folder, alive)
                           for one in (files[0], *files[2:])]
    except (ModelRefused, NotProfiled, OSError) as error:
        return NodesMeasured("not profiled: {}".format(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    measured = NodesMeasured("", call_s=times[0], nodes=longest_first(nodes), copies=time_copies())
    if len(times) < 3 or not resting or not resting[0]:
        return measured
    more = max(len(resting[0]) - 1, 1)
    return measured._replace(
        idle_call_s=times[1], idle_node_s=max(times[2] - times[1], 0.0) / more,
        profiled_idle_s=median([one.time_s for one in resting[0]]))


def longest_first(nodes: Sequence[NodeTime], kept: int = KEPT_NODES) -> List[NodeTime]:
    """The ``kept`` longest nodes by decreasing time, then the rest merged by op and provider."""
    ordered = sorted(nodes, key=lambda one: -one.time_s)
    rest: Dict[Tuple[str, str], NodeTime] = {}
    for one in ordered[kept:]:
        known = rest.get((one.op, one.provider))
        rest[one.op, one.provider] = one._replace(name="") if known is None else known._replace(
            time_s=known.time_s + one.time_s, node_count=known.node_count + one.node_count,
            moved_bytes=_sum(known.moved_bytes, one.moved_bytes))
    return [*ordered[:kept], *rest.values()]


def time_copies() -> List[Copy]:
    """The time of memory copies of some sizes, each the fastest of ``COPIES``.

    All copies begin at the start of two large buffers, which are aligned to pages alike: with
    another alignment a copy can take ten times as long. The source is written first, because unread
    pages would all be the kernel's page of zeros.
    """
    source, target = (memoryview(bytearray(b"\x01") * max(COPIED_BYTES)) for _ in range(2))
    found = []
    for size_bytes in COPIED_BYTES:
        times = []
        for _ in range(COPIES):
            before = PERF_COUNTER_NS()
            target[:size_bytes] = source[:size_bytes]
            times.append(PERF_COUNTER_NS() - before)
        found.append(Copy(size_bytes, max(min(times), 1) / NS))
    return found


def _in_turn(runs: Sequence[Run], clock_ns: Callable[[], int], alive: Alive) -> List[float]:
    """Median seconds per call of each, from alternating blocks; the first round is the warm-up."""
    samples: List[List[int]] = [[] for _ in runs]
    end_ns = clock_ns() + int(LIMIT_S * NS)
    for turn in range(ROUNDS):
        if turn >= FEWEST_ROUNDS and clock_ns() >= end_ns:
            break
        for run, kept in zip(runs, samples):
            alive()
            calls = time_block(run, int(BLOCK_S * NS), clock_ns)
            if turn:
                # The first call after another graph's has to load its data into the caches.
                kept.extend(calls[1:] or calls)
    return [median(kept) / NS for kept in samples]


def _profiled(runtime: Runtime, path: str, options: Mapping[str, object], input_seed: int,
              folder: str, alive: Alive) -> List[NodeTime]:
    session = runtime.open_profiled(path, options, input_seed, folder)
    end_ns = runtime.clock_ns() + int(LIMIT_S * NS)
    for call in range(CALLS):
        if call >= FEWEST_CALLS and runtime.clock_ns() >= end_ns:
            break
        alive()
        session.run()
    return session.node_times()


def _written(folder: str, content: Optional[bytes]) -> Optional[str]:
    if content is None:
        return None
    path = os.path.join(folder, "idle-{}".format(len(content)))
    with open(path, "wb") as stream:
        stream.write(content)
    return path


def _sum(one: Optional[int], other: Optional[int]) -> Optional[int]:
    return None if one is None or other is None else one + other
