"""Runtimes: what runs a model file. ``RUNTIMES`` maps a payload's ``runtime`` to its module."""

from importlib import import_module

from agents.runtimes.base import Runtime, RuntimeUnavailable

RUNTIMES = {
    "onnxruntime": "agents.runtimes.onnxruntime_runner",
    "trtexec": "agents.runtimes.trtexec",
    "fake": "agents.runtimes.fake",
}


def runtime_named(name: str) -> Runtime:
    """The runtime, its library not yet imported. Raises RuntimeUnavailable for an unknown name."""
    if name not in RUNTIMES:
        raise RuntimeUnavailable("There is no runtime {!r} in this agent; it has {}.".format(
            name, ", ".join(sorted(RUNTIMES))))
    runtime = import_module(RUNTIMES[name]).RUNTIME()
    if not isinstance(runtime, Runtime):
        raise RuntimeUnavailable("{} is no Runtime".format(RUNTIMES[name]))
    return runtime
