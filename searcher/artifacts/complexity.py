"""What a model costs, whatever the format of its file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerComplexity:
    """One layer with weights at batch 1. ``weight_bytes`` is the size of its weights and bias once
    loaded and decoded, ``activation_bytes`` that of its output. ``distinct_values`` and
    ``nonzero_share`` (0..1) describe the weight without the bias."""

    name: str
    op: str
    macs: int
    parameters: int
    weight_bytes: int
    activation_bytes: int
    distinct_values: int
    nonzero_share: float


@dataclass(frozen=True)
class Complexity:
    """Multiply-accumulates count once, for a batch of one."""

    parameters: int
    macs: int
    layers: tuple[LayerComplexity, ...]

    @property
    def nonzero_share(self) -> float:
        """Share of all weights, biases apart, that are not zero; 1.0 for a model without any."""
        total = sum(layer.parameters for layer in self.layers)
        nonzero = sum(layer.nonzero_share * layer.parameters for layer in self.layers)
        return nonzero / total if total else 1.0
