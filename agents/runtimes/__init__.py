"""Runtimes: libraries and programs that execute a model file. ``agents.protocol.RUNTIMES`` has a
row for each; this package has their modules."""

from importlib import import_module

from agents.protocol import RUNTIMES
from agents.runtimes.base import Runtime, RuntimeUnavailable


def runtime_named(name: str) -> Runtime:
    """A new instance of the runtime; its library is not yet imported.

    Raises RuntimeUnavailable for an unknown name, and for a module that has no runtime.
    """
    traits = RUNTIMES.get(name)
    if traits is None:
        problem = RUNTIMES.problems().get(name)
        raise RuntimeUnavailable("There is no runtime {!r} in this agent; it has {}{}.".format(
            name, ", ".join(sorted(RUNTIMES)), "; " + problem if problem else ""))
    try:
        runtime = import_module(traits.module).RUNTIME()
    except (ImportError, AttributeError) as error:
        raise RuntimeUnavailable("The runtime {!r} cannot be loaded from {} ({}): install or "
                                 "repair it for this Python.".format(
                                     name, traits.module, error)) from error
    if not isinstance(runtime, Runtime):
        raise RuntimeUnavailable("{}.RUNTIME is not a subclass of agents.runtimes.base.Runtime"
                                 .format(traits.module))
    runtime.traits = traits
    return runtime
