"""The registry of runtimes: one row each, known to coordinators and agents alike.

A built-in runtime is a row of ``BUILT_IN`` and a module of ``agents/runtimes``. A third party
registers a row by the entry point group ``fleetfront.runtimes``, under the name of the runtime.
The module of a row is imported in a measuring child only.
"""

import base64
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from agents.protocol.extensions import RUNTIME_GROUP, Extension, load_extensions, refused

GRAPH_LEVELS = ("all", "basic", "disable")
"""Values of the option ``graph_level``; the default is first."""
DEFAULT_RUNTIME = "onnxruntime"
"""The runtime of agents and campaigns that name none."""
HARDWARE = ("cpu", "gpu")
ONNX_PROOF = base64.b64decode(
    "CAYSADpMCg4KAXgKAWsSAXkiA011bBIBZyoNCAEQASIEAAAAQEIBa1oTCgF4Eg4KDAgBEggKAggBCgIIBGITCgF5Eg4K"
    "DAgBEggKAggBCgIIBEIECgAQCw==")
"""An ONNX model: y = 2 x, float32 of shape (1, 4); opset 11, IR 6."""


class RuntimeTraits(NamedTuple):
    """The row of a runtime: its properties that are independent of a device.

    ``module`` is imported in the measuring child and has ``RUNTIME``, a subclass of
    ``agents.runtimes.base.Runtime``. ``hardware`` lists (provider, ``cpu`` or ``gpu``): the
    providers that may execute its models, the runtime's own choice first, and the part of the
    board that draws the power. ``options`` are the options that it supports in addition to
    ``batch``. ``prepares``: a model needs a job of kind ``prepare`` first. ``in_process``: models
    run in the measuring child itself, so that its memory and energy are theirs. ``own_clock``: the
    runtime moves a clock of its own, and calls do not take real time. ``formats`` are the file
    formats that it loads. ``proof`` is a small model of the first format, with which an agent
    proves a provider. ``pip_package`` installs it; empty: no package does.
    """

    name: str
    module: str
    hardware: Tuple[Tuple[str, str], ...]
    options: Tuple[str, ...] = ()
    prepares: bool = False
    in_process: bool = True
    own_clock: bool = False
    formats: Tuple[str, ...] = ("onnx",)
    proof: bytes = ONNX_PROOF
    pip_package: str = ""

    @property
    def providers(self) -> Tuple[str, ...]:
        """Names of the providers, the runtime's own choice first."""
        return tuple(provider for provider, _ in self.hardware)

    def draws(self, provider: str) -> str:
        """``cpu`` or ``gpu``: what draws the power when ``provider`` computes. A provider that the
        row does not list is taken for one of the CPU."""
        return dict(self.hardware).get(provider, "cpu")


BUILT_IN = (
    RuntimeTraits(
        "onnxruntime", "agents.runtimes.onnxruntime_runner",
        hardware=(("CPUExecutionProvider", "cpu"), ("CUDAExecutionProvider", "gpu"),
                  ("TensorrtExecutionProvider", "gpu")),
        options=("threads", "graph_level", "providers"), pip_package="onnxruntime"),
    RuntimeTraits(
        "trtexec", "agents.runtimes.trtexec", hardware=(("TensorrtExecutionProvider", "gpu"),),
        options=("precision",), prepares=True, in_process=False),
    RuntimeTraits(
        "fake", "agents.runtimes.fake", hardware=(("FakeExecutionProvider", "cpu"),),
        own_clock=True),
)


class RuntimeRegistry(Mapping[str, RuntimeTraits]):
    """Rows by name. A built-in row is found without a scan for entry points; the first other
    access scans once."""

    def __init__(self, built_in: Tuple[RuntimeTraits, ...] = BUILT_IN) -> None:
        self._built_in = {row.name: row for row in built_in}
        self._scanned: Optional[List[Extension]] = None

    def __getitem__(self, name: str) -> RuntimeTraits:
        """Raises KeyError."""
        row = self._built_in.get(name)
        return row if row is not None else self._third_party()[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._built_in, *self._third_party()])

    def __len__(self) -> int:
        return len(self._built_in) + len(self._third_party())

    def problems(self) -> Dict[str, str]:
        """Name of each entry point that cannot be used -> cause and remedy."""
        return {one.name: one.problem for one in self._extensions() if one.problem}

    def draws_of(self, provider: str) -> str:
        """``cpu`` or ``gpu``: what draws the power when ``provider`` computes. A provider that no
        row lists is taken for one of the CPU."""
        for row in self._built_in.values():
            if provider in row.providers:
                return row.draws(provider)
        others = self._third_party().values() if provider else ()
        return next((row.draws(provider) for row in others if provider in row.providers), "cpu")

    def _third_party(self) -> Dict[str, RuntimeTraits]:
        return {one.name: one.value for one in self._extensions()
                if isinstance(one.value, RuntimeTraits)}

    def _extensions(self) -> List[Extension]:
        if self._scanned is None:
            known = set(self._built_in)
            self._scanned = []
            for extension in load_extensions(RUNTIME_GROUP):
                fault = extension.problem or _fault(extension.value, extension.name, known)
                if fault and not extension.problem:
                    extension = refused(extension, fault)
                known.add(extension.name)
                self._scanned.append(extension)
        return self._scanned


RUNTIMES = RuntimeRegistry()


def draws_of(provider: str) -> str:
    """``cpu`` or ``gpu``: the part of the board that draws the power when ``provider`` computes."""
    return RUNTIMES.draws_of(provider)


def _fault(row: object, name: str, known: Set[str]) -> str:
    """What is wrong with the row that an entry point loaded; empty if nothing."""
    if not isinstance(row, RuntimeTraits):
        return "loads a {}, not a RuntimeTraits".format(type(row).__name__)
    if row.name != name:
        return "loads a row for the runtime {!r}".format(row.name)
    if name in known:
        return "names a runtime that exists already"
    if not row.hardware or not all(draws in HARDWARE for _, draws in row.hardware):
        return "loads a row with the hardware {!r}, where each provider needs {}".format(
            row.hardware, " or ".join(HARDWARE))
    return ""
