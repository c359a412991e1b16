"""Test accuracy of ONNX files, computed without code of fleetfront.

    python -m benchmarks.recompute_accuracy lenet5-mnist FILE.onnx ... [--cache FOLDER] [--json]

Reads the pinned data files by itself and repeats the documented rules:
- lenet5-mnist: of the 5,000 digits, class after class, ``numpy.random.default_rng(0)`` permutes
  the positions of the class; the first 300 are training, the next 50 validation, the next 150
  test; the test digits are taken in ascending position.
- lenet5-mnist-full, lenet5-fashion: test is the 10,000 pictures of the t10k files.
- Inputs are pixels / 255 in float32, (n, 1, 28, 28); the answer is the largest output; batches of
  100.
"""

import argparse
import gzip
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime

MNIST_5K = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
T10K = {
    "lenet5-mnist-full": ("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                          "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    "lenet5-fashion": ("cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                       "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
}
BATCH = 100


def cache_folder() -> Path:
    named = os.environ.get("FLEETFRONT_CACHE")
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(named) if named else Path(home) / "fleetfront"


def _content(cache: Path, sha256: str) -> bytes:
    content = (cache / sha256).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SystemExit(f"{cache / sha256} has another digest.")
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def positions_of_test(labels: np.ndarray) -> np.ndarray:
    """Ascending positions of the 1,500 test digits among the 5,000."""
    generator = np.random.default_rng(0)
    chosen = []
    for digit in range(10):
        order = generator.permutation(np.flatnonzero(labels == digit))
        chosen.append(order[250 + 100:250 + 100 + 150])
    return np.sort(np.concatenate(chosen))


def split_of_test(task: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, 1, 28, 28) float32 and labels (n,)."""
    if task == "lenet5-mnist":
        rows = _content(cache, MNIST_5K).decode().split()
        table = np.array([[int(float(v)) for v in row.split(",")] for row in rows])
        positions = positions_of_test(table[:, -1])
        pixels, labels = table[positions, :-1], table[positions, -1]
    elif task in T10K:
        images, answers = (_content(cache, digest) for digest in T10K[task])
        pixels, labels = np.frombuffer(images[16:], np.uint8), np.frombuffer(answers[8:], np.uint8)
    else:
        raise SystemExit(f"Unknown task {task}: lenet5-mnist, {', '.join(T10K)}.")
    inputs = pixels.astype(np.float32).reshape(-1, 1, 28, 28) / np.float32(255)
    return inputs, labels.astype(np.int64)


def right_answers(file: Path, inputs: np.ndarray, labels: np.ndarray) -> int:
    """Number of correct predictions of the file, in ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = 0
    for start in range(0, len(labels), BATCH):
        outputs = session.run(None, {name: inputs[start:start + BATCH]})[0]
        right += int((np.argmax(outputs, axis=1) == labels[start:start + BATCH]).sum())
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--cache", type=Path, default=cache_folder())
    parser.add_argument("--json", action="store_true", help="{file: {right, n}}")
    arguments = parser.parse_args()
    inputs, labels = split_of_test(arguments.task, arguments.cache)
    found = {str(f): {"right": right_answers(f, inputs, labels), "n": len(labels)}
             for f in arguments.files}
    if arguments.json:
        print(json.dumps(found))
        return
    for file, count in found.items():
        print(f"{count['right'] / count['n']:.4%} ({count['right']} of {count['n']})  {file}")


if __name__ == "__main__":
    main()
