"""Accuracy of the exported file itself: by ONNX Runtime on the host, or by a device's outputs."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from searcher.errors import BuildError

BATCH = 100
LOAD_ERRORS = (RuntimeError, OSError, state.EPFail, state.Fail, state.InvalidArgument,
               state.InvalidGraph, state.InvalidProtobuf, state.NoModel, state.NoSuchFile,
               state.NotImplemented, state.RuntimeException)


@dataclass(frozen=True)
class Evaluation:
    """``correct`` says for each sample of the split, in order, whether the answer was right."""

    metric: str
    value: float
    n: int
    correct: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of an accuracy."""
        from searcher.statistics.intervals import wilson  # scipy: 0.1 s of each builder's start

        return wilson(int(self.correct.sum()), self.n)


def session(content: bytes | Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A CPU session with every graph optimisation. Raises BuildError(``unloadable``)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            content if isinstance(content, bytes) else str(content), options,
            providers=["CPUExecutionProvider"])
    except LOAD_ERRORS as error:
        raise BuildError(f"ONNX Runtime cannot load the file: {error}", "unloadable") from error


def evaluate(content: bytes | Path, inputs: np.ndarray, targets: np.ndarray,
             metric: str = "accuracy") -> Evaluation:
    """Top-1 accuracy of an ONNX file over ``inputs`` (n, *shape) float32, in batches of 100."""
    run = session(content)
    name = run.get_inputs()[0].name
    answers = [run.run(None, {name: inputs[start:start + BATCH]})[0].argmax(axis=1)
               for start in range(0, len(inputs), BATCH)]
    correct = np.concatenate(answers) == targets
    return Evaluation(metric, float(correct.mean()), len(correct), correct)


def judge(outputs: Path, targets: np.ndarray, metric: str = "accuracy") -> Evaluation:
    """Top-1 accuracy by the outputs (n, classes) in a .npy file. Raises BuildError(``outputs``)
    unless there is one for each target."""
    try:
        found = np.load(outputs, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BuildError(f"The outputs cannot be read: {error}", "outputs") from error
    if found.ndim != 2 or len(found) != len(targets):
        raise BuildError(f"Outputs of shape {found.shape} do not answer {len(targets)} samples.",
                         "outputs")
    correct = found.argmax(axis=1) == targets
    return Evaluation(metric, float(correct.mean()), len(correct), correct)


def probe_input(shape: list[int | str | None], seed: int = 0, batch: int = 1) -> np.ndarray:
    """The input that devices time and answer: ``random.Random(seed).random()`` in C order;
    symbolic dimensions become ``batch``. The same rule as ``agents/runtimes/ort_runner.py``."""
    sizes = [size if isinstance(size, int) and size > 0 else batch for size in shape]
    draw = random.Random(seed).random
    return np.array([draw() for _ in range(int(np.prod(sizes)))], np.float32).reshape(sizes)


def probe_outputs(content: bytes, seed: int = 0, most: int = 1024) -> list[float]:
    """The first output of the host for the probe input, flattened, at most ``most`` values."""
    run = session(content)
    feeds = {i.name: probe_input(i.shape, seed) for i in run.get_inputs()}
    return [float(v) for v in run.run([run.get_outputs()[0].name], feeds)[0].ravel()[:most]]
