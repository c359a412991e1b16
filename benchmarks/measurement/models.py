"""Small ONNX files of adjustable latency, and the plain loops that time them."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

CHANNELS, SIDE = 8, 14
SHAPE = (1, CHANNELS, SIDE, SIDE)


def chain(path: Path, layers: int, seed: int = 0) -> Path:
    """Writes a chain of ``layers`` convolutions, a few microseconds each, with values of order 1.
    """
    rng = np.random.default_rng(seed)
    scale = (2 / (CHANNELS * 9)) ** 0.5
    weights = (scale * rng.standard_normal((CHANNELS, CHANNELS, 3, 3))).astype(np.float32)
    nodes, name = [], "input"
    for layer in range(layers):
        nodes += [helper.make_node("Conv", [name, "weights"], [f"c{layer}"], pads=[1, 1, 1, 1]),
                  helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"])]
        name = f"r{layer}"
    graph = helper.make_graph(
        nodes, "chain", [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, SHAPE)],
        [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, str(path))
    return path


def opened(path: Path) -> Any:
    """Opens the file on one thread; returns a function that runs one inference."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    one, output = session.get_inputs()[0], [session.get_outputs()[0].name]
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in one.shape]
    feed = {one.name: np.random.default_rng(0).random(shape, dtype=np.float32)}
    return lambda: session.run(output, feed)


def timed(call: Any, seconds: float) -> list[float]:
    """Seconds of each call in a plain loop."""
    found = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        before = time.perf_counter()
        call()
        found.append(time.perf_counter() - before)
    return found
