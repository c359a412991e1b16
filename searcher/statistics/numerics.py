"""Whether a device may compute other outputs than the host: a rule on plain values."""

from profiles.number_formats import COARSER_FLOATS, PROCESSOR_DEPENDENT
from profiles.schema import DeviceProfile
from searcher.spec.runtime_options import DEFAULT as HOST
from searcher.spec.runtime_options import Execution

_SAME = {"amd64": "x86_64", "arm64": "aarch64"}
"""Other names of the same architecture."""


def why_they_differ(device: DeviceProfile, execution: Execution, shares_host: bool,
                    host_machine: str) -> str | None:
    """The reason in words; None where the accuracy on the host is also that of the device.

    This holds for the same runtime and provider: in float32 on the same architecture; on the same
    machine only for formats whose results depend on the processor's instructions.
    """
    for runtime in (device.runtime, execution.runtime):
        if runtime != HOST.runtime:
            return f"it runs files with {runtime}, the host with {HOST.runtime}"
    if execution.provider != HOST.provider:
        return f"it runs files with {execution.provider}, the host with {HOST.provider}"
    if execution.graph_level != HOST.graph_level:
        return (f"it runs graphs of level {execution.graph_level}, the host of level "
                f"{HOST.graph_level}")
    coarser = device.number_formats & COARSER_FLOATS
    if coarser:
        return f"it may compute in {', '.join(sorted(coarser))}"
    if shares_host:
        return None
    machine = _kind(device.machine or host_machine)
    if machine != _kind(host_machine):
        return f"its processor is {machine}, the host's is {_kind(host_machine)}"
    dependent = device.number_formats & PROCESSOR_DEPENDENT
    if dependent:
        return (f"{', '.join(sorted(dependent))} results depend on the processor, and this is "
                "another machine")
    return None


def _kind(machine: str) -> str:
    return _SAME.get(machine.lower(), machine.lower())
