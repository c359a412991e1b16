"""What number formats mean on a processor."""

DEFAULT = "float32"
"""Of a file of which nothing else is known."""

COARSER_FLOATS = frozenset({"float16"})
"""Formats in which a device may compute a float32 file without saying so."""

PROCESSOR_DEPENDENT = frozenset({"int8"})
"""Formats whose results differ between processors: at what sums saturate depends on the
instructions."""

_ACTIVATIONS = {"x86_64": "uint8", "amd64": "uint8", "aarch64": "int8", "arm64": "int8",
                "armv7l": "int8"}
"""The activations of int8 files by processor: U8S8 on x86-64, S8S8 on ARM."""


def activations_on(machine: str, known: str | None) -> str | None:
    """The activations of int8 files on ``machine`` (as ``uname -m`` spells it), ``known`` where it
    is another processor. None stays None: a device that computes no int8."""
    return None if known is None else _ACTIVATIONS.get(machine.lower(), known)
