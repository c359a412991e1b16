"""Reads ONNX Runtime's profile: a list of events, one per node and call with its duration.

    {"cat": "Node", "name": "conv1_kernel_time", "dur": 18, "ts": ...,            microseconds
     "args": {"op_name": "Conv", "provider": "CPUExecutionProvider", "node_index": "8",
              "activation_size": "3136", "parameter_size": "288", "output_size": "25088", ...}}

The nodes are those of the optimised graph, after fusing and folding. The sizes lack weights that a
kernel has packed in a layout of its own; they are therefore taken from the profile of a session
without packing.
"""

from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from agents.protocol import NodeTime
from agents.timing.calls import median

KERNEL = "_kernel_time"
HOLDERS = ("If", "Loop", "Scan")
"""Their time is that of the nodes in their subgraphs, which have events too."""
SIZES = ("activation_size", "parameter_size", "output_size")


class _Key(NamedTuple):
    name: str
    op: str
    provider: str
    place: str


class _KernelRun(NamedTuple):
    """One run of a node; ``moved_bytes`` are those of inputs, weights and outputs, None if one is
    unknown."""

    key: _Key
    duration_s: float
    moved_bytes: Optional[int]


def node_times(events: Sequence[Mapping[str, object]],
               unpacked: Sequence[Mapping[str, object]] = ()) -> List[NodeTime]:
    """All nodes in order of their first run. The time is the median over calls without the first,
    if there are several; the runs of a node within one call are summed. ``unpacked`` is the profile
    that the bytes are taken from."""
    calls = max(1, sum(event.get("name") == "model_run" for event in events))
    found: Dict[_Key, List[float]] = {}
    for run in _kernel_runs(events):
        found.setdefault(run.key, []).append(run.duration_s)
    moved = {run.key: run.moved_bytes for run in _kernel_runs(unpacked)}
    return [NodeTime(key.name, key.op, key.provider, _per_call(times, calls),
                     moved_bytes=moved.get(key)) for key, times in found.items()]


def _kernel_runs(events: Sequence[Mapping[str, object]]) -> Iterator[_KernelRun]:
    for event in events:
        name, args = str(event.get("name", "")), event.get("args")
        if event.get("cat") != "Node" or not name.endswith(KERNEL) or not isinstance(args, dict):
            continue
        op, duration_us = str(args.get("op_name", "")), event.get("dur")
        if op not in HOLDERS:
            place = str(args.get("node_index", args.get("graph_index", "")))
            yield _KernelRun(
                _Key(name[:-len(KERNEL)], op, str(args.get("provider", "")), place),
                duration_us / 1e6 if isinstance(duration_us, (int, float)) else 0.0,
                _moved(args))


def _per_call(times: Sequence[float], calls: int) -> float:
    if len(times) != calls:
        return sum(times) / calls
    return median(times[1:] or times)


def _moved(args: Mapping[str, object]) -> Optional[int]:
    """Bytes of inputs, weights and outputs; None if one is unknown."""
    sizes = [str(args.get(name, "")) for name in SIZES]
    return sum(map(int, sizes)) if all(size.isdigit() for size in sizes) else None
