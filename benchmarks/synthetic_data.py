"""Data of the own-task benchmark, made from seeds with numpy alone, so that the independent script
of ``benchmarks.recompute_quality`` and the tasks of ``benchmarks.own_tasks`` read the same samples.

Pictures are (n, 1, 24, 24) float32 with mean 0: a bright or dark bar on noise.
"""

import numpy as np
from numpy.typing import NDArray

SIZES = {"training": 1600, "validation": 400, "test": 800}
SEEDS = {"training": 1, "validation": 2, "test": 3}
SIDE = 24
RARE_SHARE = 0.1
NOISE = 0.8

Pictures = NDArray[np.float32]


def _bars(split: str) -> tuple[Pictures, NDArray[np.int64], NDArray[np.float64]]:
    """Pictures, where the bar is bright rather than dark (0 or 1), and its angle in degrees."""
    draw = np.random.default_rng(SEEDS[split])
    n = SIZES[split]
    bright = (draw.random(n) < RARE_SHARE).astype(np.int64)
    angles = draw.uniform(-60, 60, n)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    radians = np.deg2rad(angles)[:, None, None]
    distance = np.abs(x * np.sin(radians) - y * np.cos(radians))
    bars = np.clip(2.5 - distance, 0, 1) * np.where(bright, 1.5, -1.5)[:, None, None]
    pictures = bars + NOISE * draw.standard_normal((n, SIDE, SIDE))
    return pictures[:, None].astype(np.float32), bright, angles


def rare_class(split: str) -> tuple[Pictures, NDArray[np.int64]]:
    """Class 1, a bright bar, has a tenth of the samples."""
    pictures, bright, _ = _bars(split)
    return pictures, bright


def angle(split: str) -> tuple[Pictures, NDArray[np.float32]]:
    """The angle of the bar in units of 60 degrees, (n, 1)."""
    pictures, _, angles = _bars(split)
    return pictures, (angles / 60).astype(np.float32)[:, None]


def bar_pixels(split: str) -> tuple[Pictures, NDArray[np.int64]]:
    """The class of each pixel: 0 background, 1 dark bar, 2 bright bar; (n, 24, 24)."""
    pictures, bright, angles = _bars(split)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    radians = np.deg2rad(angles)[:, None, None]
    inside = np.abs(x * np.sin(radians) - y * np.cos(radians)) < 2
    return pictures, np.where(inside, 1 + bright[:, None, None], 0).astype(np.int64)
