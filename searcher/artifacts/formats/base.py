"""What a file format is: how the host loads, runs, counts and inspects a file of it.

A format is one file in this folder and one line of its registry, or an entry point
``fleetfront.formats``. ``strategies.target.Target.format`` names it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from searcher.artifacts.complexity import Complexity

Array = NDArray[Any]


class Refused(Exception):
    """An uploaded model is not accepted; ``reason`` is one short stable word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class TensorFacts:
    """An input or output: number format and shape; None is a size that the model leaves open."""

    name: str
    format: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class ModelFacts:
    """What the ledger keeps of an accepted model. ``macs`` is None where they cannot be counted,
    ``notes`` say why. ``opset``, ``ir_version``, ``domains`` and ``custom_domains`` describe the
    operators of an ONNX file; other formats leave them out."""

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    parameters: int
    macs: int | None
    number_formats: tuple[str, ...]
    notes: tuple[str, ...] = ()
    opset: int = 0
    ir_version: int = 0
    domains: Mapping[str, int] = field(default_factory=dict)
    custom_domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostInput:
    """An input of a loaded model; sizes that are no positive number are open. ``dtype`` is numpy's
    name of its element type."""

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str = "float32"


class HostModel(ABC):
    """A file loaded on the host."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[HostInput, ...]:
        """The inputs in the order of the file."""

    @abstractmethod
    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name, in the order of the file, for one array per input, whose first axis
        is the batch. Raises BuildError(``outputs``)."""


class ArtifactFormat(ABC):
    """One format of model files. Stateless: one instance serves a process."""

    name: ClassVar[str]
    """As ``Target.format`` spells it."""
    suffix: ClassVar[str]
    """Of its files, with the dot."""

    @abstractmethod
    def from_onnx(self, content: bytes) -> bytes:
        """The file of this format for a finished ONNX file. Deterministic: equal input gives
        equal bytes. Raises BuildError."""

    @abstractmethod
    def load(self, content: bytes | Path, threads: int = 1) -> HostModel:
        """A file, or its bytes, on the CPU. Raises BuildError(``unloadable``)."""

    @abstractmethod
    def complexity(self, content: bytes | Path) -> Complexity:
        """Parameters and multiply-accumulates. Raises UserError when they cannot be counted."""

    @abstractmethod
    def inspect(self, content: bytes) -> ModelFacts:
        """The facts of a file of unknown origin; runs in a bounded process of its own. Raises
        Refused, MemoryError."""
