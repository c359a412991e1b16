"""Whether a device computes other numbers from a file than the host: a rule on plain values."""

from profiles.schema import DeviceProfile
from searcher.spec.runtime_options import DEFAULT as HOST
from searcher.spec.runtime_options import Execution

_SAME = {"amd64": "x86_64", "arm64": "aarch64"}
"""Two names of one kind of processor."""


def why_they_differ(device: DeviceProfile, execution: Execution, shares_host: bool,
                    host_machine: str) -> str | None:
    """In words, or None where the host's accuracy is the device's: the same runtime and provider
    in float32 on the same kind of processor, and in int8 on the very machine, because what int8
    sums saturate at depends on the processor's instructions."""
    for runtime in (device.runtime, execution.runtime):
        if runtime != HOST.runtime:
            return f"it runs files with {runtime}, the host with {HOST.runtime}"
    if execution.provider != HOST.provider:
        return f"it runs files with {execution.provider}, the host with {HOST.provider}"
    if execution.graph_level != HOST.graph_level:
        return (f"it runs graphs of level {execution.graph_level}, the host of level "
                f"{HOST.graph_level}")
    if "float16" in device.number_formats:
        return "it may compute in float16"
    if shares_host:
        return None
    machine = _kind(device.machine or host_machine)
    if machine != _kind(host_machine):
        return f"its processor is {machine}, the host's is {_kind(host_machine)}"
    if "int8" in device.number_formats:
        return "int8 depends on the processor, and it is another machine"
    return None


def _kind(machine: str) -> str:
    return _SAME.get(machine.lower(), machine.lower())
