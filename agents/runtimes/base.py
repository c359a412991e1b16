"""The interface of a runtime. It is used in child processes only, so that a crash costs a child.

``Runtime.open`` reads the file, prepares it and binds the timing input. For each model input,
symbolic dimensions become ``batch``, and the values are ``random.Random(input_seed).random()`` in C
order, as float32; of integers and booleans 1 where that is at least 0.5, else 0. The generator is
seeded again for each input.
"""

import random
import time
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

from agents.protocol import JsonObject, NodeTime, RuntimeTraits
from agents.timing.arrays import Values
from agents.timing.dataset import ONLY


class RuntimeUnavailable(Exception):
    """The runtime's library is not installed; the text says how to install it."""


class ModelRefused(Exception):
    """The runtime cannot load or run a file; the text is the runtime's own message."""


class NotPrepared(ModelRefused):
    """``prepare`` has not been called for this file with these options, or its product was
    evicted."""


class NotProfiled(Exception):
    """The runtime cannot time single nodes; the text says why."""


class Prepared(NamedTuple):
    """``prepare_s`` is the duration (0 if ``reused``), ``kept_bytes`` the size of the product."""

    prepare_s: float
    reused: bool
    kept_bytes: int


class Session:
    """An opened model with its timing input bound."""

    provider = ""
    """The provider that executes it, by the runtime's own name."""
    batch: Optional[int] = None
    """The fixed number of samples per call; None: any number."""

    def run(self) -> object:
        """One call. It is timed, so it must contain nothing else."""
        raise NotImplementedError

    def bound_outputs(self) -> List[float]:
        """The outputs of one call with the timing input, in the order of the file, each flattened
        in C order, together at most ``OUTPUT_LIMIT`` values. Outputs that are no tensors of numbers
        are left out."""
        raise NotImplementedError

    def node_times(self) -> List[NodeTime]:
        """All nodes that ran, in order, for a session from ``open_profiled`` after its last call.
        Raises NotProfiled."""
        raise NotProfiled("this session was opened without a profiler")

    def outputs(self, feeds: Mapping[str, Values]) -> Dict[str, Values]:
        """The outputs by name, in the order of the file, for ``feeds`` by name of the input, which
        have the samples first (``feeds_of`` matches them). Floating point outputs are ``<f4``,
        others have their own kind. Raises ModelRefused."""
        raise NotImplementedError


class Runtime:
    """Opens models. ``options`` are ``batch`` and those that the runtime's row lists."""

    folder: Optional[str] = None
    """A folder for what it prepares; set before use."""
    traits: RuntimeTraits
    """Its row in the registry; set before use."""

    def prepare(self, path: str, options: Mapping[str, object]) -> Prepared:
        """Builds and stores what ``open`` needs. Raises ModelRefused, as does a runtime that needs
        nothing."""
        raise ModelRefused("This runtime opens files directly: there is nothing to prepare.")

    def versions(self) -> JsonObject:
        """Version of the library under the runtime's name, and the list ``providers``. Raises
        RuntimeUnavailable."""
        raise NotImplementedError

    def open(self, path: str, options: Mapping[str, object], input_seed: int) -> Session:
        """Opens a model, without warm-up. Raises ModelRefused."""
        raise NotImplementedError

    def open_profiled(self, path: str, options: Mapping[str, object], input_seed: int,
                      folder: str) -> Session:
        """Opens a model with a profiler that times each node and slows every call. The caller
        removes ``folder``, which is for the profiler's files. Raises ModelRefused and
        NotProfiled."""
        raise NotProfiled("this runtime cannot time single nodes")

    def idle_model(self, nodes: int) -> Optional[bytes]:
        """A model of ``nodes`` nodes in a row that compute next to nothing, none of which the
        runtime removes; None if the runtime has none."""
        return None

    def prove(self, provider: str, model: bytes) -> None:
        """One inference of ``model`` (the row's ``proof``) by ``provider`` and no other. Only that
        proves a provider: libraries list the ones they were built with. Raises ModelRefused."""
        raise NotImplementedError

    def clock_ns(self) -> int:
        """The monotonic clock of this runtime's calls, in nanoseconds."""
        return int(PERF_COUNTER_NS())


def _perf_counter_ns() -> int:
    return int(time.perf_counter() * 1e9)


# Python 3.6 has no perf_counter_ns.
PERF_COUNTER_NS = getattr(time, "perf_counter_ns", _perf_counter_ns)


def input_values(count: int, input_seed: int) -> List[float]:
    """The first ``count`` values of the timing input."""
    source = random.Random(input_seed)
    return [source.random() for _ in range(count)]


def is_one(value: float) -> bool:
    """Whether an integer of the timing input is 1 where a float is ``value``."""
    return value >= 0.5


def feeds_of(given: Mapping[str, Values], inputs: Sequence[str]) -> Dict[str, Values]:
    """``given`` in the order of ``inputs``. Raises ModelRefused unless it has each of them and no
    other; a single array without a name is for the only input."""
    named = dict(given)
    if list(named) == [ONLY] and len(inputs) == 1:
        return {inputs[0]: named[ONLY]}
    if set(named) != set(inputs):
        raise ModelRefused("The model has the inputs {}, the data set {}.".format(
            _names(inputs), "has no names" if list(named) == [ONLY] else _names(list(named))))
    return {name: named[name] for name in inputs}


def _names(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "(none)"


def option(options: Mapping[str, object], name: str, default: int) -> int:
    """The positive integer of an option. Raises ModelRefused."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelRefused("The option {!r} must be a positive integer, got {!r}.".format(
            name, value))
    return value

