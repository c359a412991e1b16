"""Whether a device computes other numbers from a file than the host: a rule on plain values."""

from profiles.schema import DeviceProfile

_SAME = {"amd64": "x86_64", "arm64": "aarch64"}
"""Two names of one kind of processor."""


def why_they_differ(device: DeviceProfile, shares_host: bool, host_machine: str) -> str | None:
    """In words, or None where the host's accuracy is the device's: the same runtime in float32 on
    the same kind of processor, and in int8 on the very machine, because what int8 sums saturate at
    depends on the processor's instructions."""
    if device.runtime != "onnxruntime":
        return f"it runs files with {device.runtime}, the host with onnxruntime"
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
