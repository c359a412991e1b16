"""Fashion-MNIST as the networks of the benchmarks use it: 14,000 standardised pictures.

Training is the first 8,000 pictures of the training file, validation the next 2,000, test the
first 4,000 of the test file. Inputs are (pixels / 255 - 0.2860) / 0.3530 in float32,
(n, 1, 28, 28).
"""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import TensorDataset

from searcher.tasks.datasets.mnist import FASHION_MNIST, read_idx

MEAN, DEVIATION = np.float32(0.2860), np.float32(0.3530)
TRAINING, VALIDATION, TEST = 8_000, 2_000, 4_000


def splits(cache: Path | None = None) -> dict[str, TensorDataset]:
    """The three splits by name. Obtains the files when they are missing; raises UserError."""
    paths = [file.obtain(cache) for file in FASHION_MNIST]
    pixels, labels = read_idx(paths[0], paths[1])
    test_pixels, test_labels = read_idx(paths[2], paths[3])
    end = TRAINING + VALIDATION
    return {"training": _dataset(pixels[:TRAINING], labels[:TRAINING]),
            "validation": _dataset(pixels[TRAINING:end], labels[TRAINING:end]),
            "test": _dataset(test_pixels[:TEST], test_labels[:TEST])}


def standardised(pixels: np.ndarray) -> np.ndarray:
    """(n, 1, 28, 28) float32 from (n, 28, 28) uint8."""
    scaled = (pixels.astype(np.float32) / np.float32(255) - MEAN) / DEVIATION
    return np.ascontiguousarray(scaled[:, None])


def _dataset(pixels: np.ndarray, labels: np.ndarray) -> TensorDataset:
    return TensorDataset(torch.from_numpy(standardised(pixels)), torch.from_numpy(labels.copy()))
