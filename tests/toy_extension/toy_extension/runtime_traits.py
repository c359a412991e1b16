"""The registry row of the toy's runtime."""

from agents.protocol import RuntimeTraits

TRAITS = RuntimeTraits(
    "toy_runtime", "toy_extension.runtime", hardware=(("CPUExecutionProvider", "cpu"),),
    options=("threads", "graph_level"))
