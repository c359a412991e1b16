"""Quality of ONNX files on the tasks of ``benchmarks.own_tasks``, computed without code of
fleetfront: numpy, ONNX Runtime, scikit-learn and torchmetrics.

    python -m benchmarks.recompute_quality rare_class|one_logit|bar_pixels|angle FILE.onnx ...

Prints {file: value} of the test split as JSON.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from sklearn import metrics
from torchmetrics.functional import mean_absolute_error as torch_mean_absolute_error

from benchmarks import synthetic_data

Array = NDArray[Any]
BATCH = 100


def balanced_accuracy(outputs: Array, targets: Array) -> float:
    return float(metrics.balanced_accuracy_score(targets, outputs.argmax(1)))


def binary_accuracy(outputs: Array, targets: Array) -> float:
    return float(metrics.accuracy_score(targets, outputs.reshape(-1) > 0))


def mean_iou(outputs: Array, targets: Array) -> float:
    return float(metrics.jaccard_score(targets.ravel(), outputs.argmax(1).ravel(),
                                       average="macro"))


def mean_absolute_error(outputs: Array, targets: Array) -> float:
    """In float32, as torchmetrics computes it."""
    return float(torch_mean_absolute_error(torch.from_numpy(outputs), torch.from_numpy(targets)))


TASKS: dict[str, tuple[Callable[[str], tuple[Array, Array]], Callable[[Array, Array], float]]] = {
    "rare_class": (synthetic_data.rare_class, balanced_accuracy),
    "one_logit": (synthetic_data.rare_class, binary_accuracy),
    "bar_pixels": (synthetic_data.bar_pixels, mean_iou),
    "angle": (synthetic_data.angle, mean_absolute_error),
}
"""{task: (data of a split, metric of outputs and targets)}."""


def outputs_of(file: Path, pictures: Array) -> Array:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: pictures[start:start + BATCH]})[0]
                           for start in range(0, len(pictures), BATCH)])


def quality(task: str, file: Path, split: str = "test") -> float:
    data, metric = TASKS[task]
    pictures, targets = data(split)
    return metric(outputs_of(file, pictures), targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    print(json.dumps({str(f): quality(arguments.task, f) for f in arguments.files}))


if __name__ == "__main__":
    main()
