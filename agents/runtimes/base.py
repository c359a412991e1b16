"""What a runtime is. It lives in a child process only: a crash there costs the child.

``Runtime.open`` reads the file, prepares it and binds the timing input: for each model input,
symbolic dimensions become ``batch`` and the values are ``random.Random(input_seed).random()`` in
C order, as float32 (anew from the seed for each input).
"""

import random
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from agents.protocol import NodeTime, RuntimeTraits


class RuntimeUnavailable(Exception):
    """The runtime's library is not there; the text says how to install it."""


class ModelRefused(Exception):
    """The runtime cannot load or run this file; the text is the runtime's own."""


class NotPrepared(ModelRefused):
    """``prepare`` has not been done for this file with these options, or what it made is gone."""


class NotProfiled(Exception):
    """This runtime does not tell the times of single nodes; the text says why."""


class Prepared(NamedTuple):
    """How long it took (0 when it was ``reused``), and the bytes that are kept."""

    prepare_s: float
    reused: bool
    kept_bytes: int


class Session:
    """One opened model with its input bound."""

    provider = ""
    """What really runs it, in the runtime's own words."""
    batch: Optional[int] = None
    """Samples that one call takes; None: any number."""

    def run(self) -> object:
        """One call: nothing but the call is inside, since this is what is timed."""
        raise NotImplementedError

    def first_output(self) -> List[float]:
        """One call; its first output flattened in C order, at most ``OUTPUT_LIMIT`` values."""
        raise NotImplementedError

    def node_times(self) -> List[NodeTime]:
        """Of a session that ``open_profiled`` opened, after its last call: every node that ran,
        in order. Raises NotProfiled."""
        raise NotProfiled("this session was not opened for a profile")

    def outputs(self, values: bytes, shape: Sequence[int]) -> Tuple[bytes, List[int]]:
        """The first output for other inputs, and its shape. Both are float32, little-endian, in C
        order, the samples first. Raises ModelRefused."""
        raise NotImplementedError


class Runtime:
    """Opens models. ``options`` are the trial's: threads, graph_level, batch, precision."""

    folder: Optional[str] = None
    """Where it may keep what it has prepared; set before it is used."""
    traits: RuntimeTraits
    """Its row in the registry; set before it is used."""

    def prepare(self, path: str, options: Dict[str, Any]) -> Prepared:
        """Raises ModelRefused, and so does a runtime that opens files as they are."""
        raise ModelRefused("This runtime opens files as they are: there is nothing to prepare.")

    def versions(self) -> Dict[str, Any]:
        """Name and version of the library and what it offers. Raises RuntimeUnavailable."""
        raise NotImplementedError

    def open(self, path: str, options: Dict[str, Any], input_seed: int) -> Session:
        """A warm-up is the caller's. Raises ModelRefused."""
        raise NotImplementedError

    def open_profiled(self, path: str, options: Dict[str, Any], input_seed: int,
                      folder: str) -> Session:
        """The same, with each node timed, which slows all of it; ``folder`` is for files that the
        profile needs, and the caller's to remove. Raises ModelRefused and NotProfiled."""
        raise NotProfiled("this runtime does not tell the times of single nodes")

    def idle_model(self, nodes: int) -> Optional[bytes]:
        """A model of so many nodes in a row that compute next to nothing and are all run; None
        where there is none."""
        return None

    def prove(self, provider: str, model: bytes) -> None:
        """One inference of ``model`` (the row's ``proof``) by ``provider`` and no other. Only that
        proves a provider: libraries list the ones they were built with. Raises ModelRefused."""
        raise NotImplementedError

    def clock_ns(self) -> int:
        """Monotonic nanoseconds in which this runtime's calls take their time."""
        return int(PERF_COUNTER_NS())


def _perf_counter_ns() -> int:
    return int(time.perf_counter() * 1e9)


# Python 3.6 has no perf_counter_ns.
PERF_COUNTER_NS = getattr(time, "perf_counter_ns", _perf_counter_ns)


def input_values(count: int, input_seed: int) -> List[float]:
    """The first ``count`` values of the timing input."""
    source = random.Random(input_seed)
    return [source.random() for _ in range(count)]


def option(options: Dict[str, Any], name: str, default: int) -> int:
    """A positive integer among the options. Raises ModelRefused."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelRefused("The option {!r} must be a positive integer, got {!r}.".format(
            name, value))
    return value

