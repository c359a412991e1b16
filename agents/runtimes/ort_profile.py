"""ONNX Runtime's profile: a list of events, of which one per node and call tells how long it took.

    {"cat": "Node", "name": "conv1_kernel_time", "dur": 18, "ts": ...,            microseconds
     "args": {"op_name": "Conv", "provider": "CPUExecutionProvider", "node_index": "8",
              "activation_size": "3136", "parameter_size": "288", "output_size": "25088", ...}}

The nodes are those of the optimised graph: what was fused has one name, what was folded is gone.
Weights that a kernel has packed for itself are missing from the sizes, so these are taken from the
profile of a session that packs none.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from agents.protocol import NodeTime
from agents.timing.calls import median

KERNEL = "_kernel_time"
HOLDERS = ("If", "Loop", "Scan")
"""Their time is that of the nodes inside them, which have events of their own."""
SIZES = ("activation_size", "parameter_size", "output_size")


class _Key(NamedTuple):
    name: str
    op: str
    provider: str
    place: str


def node_times(events: Sequence[Dict[str, Any]],
               unpacked: Sequence[Dict[str, Any]] = ()) -> List[NodeTime]:
    """Every node in order of its first run. The time is the median of its calls, the first left out
    where there are more; of a node that ran several times in a call it is their sum. ``unpacked``
    is the profile to take the bytes from."""
    calls = max(1, sum(event.get("name") == "model_run" for event in events))
    found: Dict[_Key, List[float]] = {}
    for key, event in _kernels(events):
        found.setdefault(key, []).append(float(event.get("dur", 0)) / 1e6)
    moved = {key: _moved(event["args"]) for key, event in _kernels(unpacked)}
    return [NodeTime(key.name, key.op, key.provider, _per_call(times, calls),
                     moved_bytes=moved.get(key)) for key, times in found.items()]


def _kernels(events: Sequence[Dict[str, Any]]) -> Iterator[Tuple[_Key, Dict[str, Any]]]:
    for event in events:
        name, told = str(event.get("name", "")), event.get("args") or {}
        op = str(told.get("op_name", ""))
        if event.get("cat") == "Node" and name.endswith(KERNEL) and op not in HOLDERS:
            yield _Key(name[:-len(KERNEL)], op, str(told.get("provider", "")), str(
                told.get("node_index", told.get("graph_index", "")))), event


def _per_call(times: Sequence[float], calls: int) -> float:
    if len(times) != calls:
        return sum(times) / calls
    return median(times[1:] or times)


def _moved(told: Dict[str, Any]) -> Optional[int]:
    """Bytes that go in, weights included, and out."""
    sizes = [str(told.get(name, "")) for name in SIZES]
    return sum(map(int, sizes)) if all(size.isdigit() for size in sizes) else None
