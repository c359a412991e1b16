"""What both sides know of runtimes before a device is asked (re-exported by agents.protocol)."""

from typing import NamedTuple, Tuple


class RuntimeTraits(NamedTuple):
    """What is known of a runtime before a device is asked: the ``providers`` that may run its
    files, its own choice first, and the ``options`` that it goes by beside ``batch``. With
    ``prepares`` a file needs a job of kind ``prepare`` first; without ``in_process`` another
    process computes than the one whose memory and energy are measured."""

    providers: Tuple[str, ...]
    options: Tuple[str, ...] = ()
    prepares: bool = False
    in_process: bool = True


RUNTIMES = {
    "onnxruntime": RuntimeTraits(
        ("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"),
        ("threads", "graph_level", "providers")),
    "trtexec": RuntimeTraits(("TensorrtExecutionProvider",), ("precision",), True, False),
    "fake": RuntimeTraits(("FakeExecutionProvider",)),
}
"""By the name that payloads have for it (``agents/runtimes``)."""
GRAPH_LEVELS = ("all", "basic", "disable")
"""Values of the option ``graph_level``, the default first."""
