"""What each layer of a model loses when a strategy compresses it alone, and what it then costs."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Cost = Literal["file_bytes", "macs"]


@dataclass(frozen=True)
class ScanLevel:
    """A layer alone at one strength. ``loss`` is the squared error of the model's outputs relative
    to their variance; those of several layers add up. ``file_bytes`` and ``macs`` are what the
    layer then costs, changes of other layers included."""

    strength: float
    loss: float
    file_bytes: float
    macs: float


@dataclass(frozen=True)
class LayerScan:
    """The levels of one layer, strongest first; ``weights`` is the number of its weights."""

    layer: str
    weights: int
    levels: tuple[ScanLevel, ...]


@dataclass(frozen=True)
class ScanResult:
    """``parameter`` is the one whose numbers the strengths are. ``coarser`` says what the seconds
    left out, ``left`` why layers were not compressed, by name."""

    strategy: str
    parameter: str
    layers: tuple[LayerScan, ...]
    samples: int
    coarser: str | None = None
    left: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def losses(self) -> Mapping[str, Mapping[float, float]]:
        """``{layer: {strength: loss}}``."""
        return {one.layer: {level.strength: level.loss for level in one.levels}
                for one in self.layers}

    @functools.cached_property
    def costs(self) -> Mapping[Cost, Mapping[str, Mapping[float, float]]]:
        """``{cost: {layer: {strength: cost}}}``."""
        return {
            "file_bytes": {one.layer: {level.strength: level.file_bytes for level in one.levels}
                           for one in self.layers},
            "macs": {one.layer: {level.strength: level.macs for level in one.levels}
                     for one in self.layers}}
