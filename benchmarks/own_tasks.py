"""The tasks of ``benchmarks.own_task``, as users write them."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

import fleetfront
from benchmarks import synthetic_data

PHOTOS = "FLEETFRONT_BENCHMARK_PHOTOS"
"""Environment variable: the folder of photographs, one sub-folder for each split."""
CLASSES = 4
SIDE = 64


class Residual(nn.Module):
    """A stem, three residual blocks with BatchNorm and a depthwise layer, a linear head."""

    def __init__(self, outputs: int, channels: int = 24, inputs: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(inputs, channels, 3, 2, 1, bias=False),
                                  nn.BatchNorm2d(channels), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False),
                nn.BatchNorm2d(channels), nn.ReLU(),
                nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for _ in range(3))
        self.head = nn.Linear(channels, outputs)

    def features(self, picture: Tensor) -> Tensor:
        found: Tensor = self.stem(picture)
        for block in self.blocks:
            found = torch.relu(found + block(found))
        return found

    def forward(self, picture: Tensor) -> Tensor:
        found: Tensor = self.head(self.features(picture).mean((2, 3)))
        return found


class Angle(Residual):
    """The direction of a bar: the whole map counts, not only its average."""

    def __init__(self) -> None:
        super().__init__(1)
        self.head = nn.Linear(24 * 12 * 12, 1)

    def forward(self, picture: Tensor) -> Tensor:
        found: Tensor = self.head(self.features(picture).flatten(1))
        return found


class Pixels(Residual):
    """One logit for each class and pixel."""

    def __init__(self) -> None:
        super().__init__(3)
        self.head = nn.Conv2d(24, 3, 1)  # type: ignore[assignment]
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, picture: Tensor) -> Tensor:
        found: Tensor = self.head(self.up(self.features(picture)))
        return found


TRAINING = fleetfront.BaselineTraining(cycle_epochs=6, max_epochs=8)
EPOCHS = {"short": 1, "full": 3}


def rare_class() -> fleetfront.Task:
    return fleetfront.Task(
        "rare-class", lambda: Residual(2), synthetic_data.rare_class("training"),
        synthetic_data.rare_class("validation"), synthetic_data.rare_class("test"),
        metric="balanced_accuracy", baseline=TRAINING, epochs=EPOCHS)


def _one_logit_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())


def one_logit() -> fleetfront.Task:
    return fleetfront.Task(
        "one-logit", lambda: Residual(1), synthetic_data.rare_class("training"),
        synthetic_data.rare_class("validation"), synthetic_data.rare_class("test"),
        loss=_one_logit_loss, metric="binary_accuracy", baseline=TRAINING, epochs=EPOCHS)


def bar_pixels() -> fleetfront.Task:
    return fleetfront.Task(
        "bar-pixels", Pixels, synthetic_data.bar_pixels("training"),
        synthetic_data.bar_pixels("validation"), synthetic_data.bar_pixels("test"),
        metric="mean_iou", baseline=TRAINING, epochs=EPOCHS)


def angle() -> fleetfront.Task:
    return fleetfront.Task(
        "angle", Angle, synthetic_data.angle("training"), synthetic_data.angle("validation"),
        synthetic_data.angle("test"), loss=nn.functional.mse_loss,
        metric="torchmetrics.MeanAbsoluteError", baseline=TRAINING, epochs=EPOCHS)


class Photos(Dataset[tuple[Tensor, int]]):
    """JPEG files named ``<class>-<number>.jpg``, decoded and scaled when they are read."""

    def __init__(self, folder: Path, at_most: int | None = None) -> None:
        """``at_most`` files, evenly spread: the names begin with the class."""
        files = sorted(folder.glob("*.jpg"))
        self.files = files if at_most is None else files[::len(files) // at_most][:at_most]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.files[index]) as image:
            image.draft("RGB", (4 * SIDE, 4 * SIDE))
            pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.float32)
        standardized = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - 0.5) / 0.25
        return standardized, int(self.files[index].name.split("-")[0])


def _photos(name: str, at_most: int | None = None, workers: int = 0) -> fleetfront.Task:
    root = Path(os.environ[PHOTOS])
    splits = [Photos(root / split, at_most) for split in ("training", "validation", "test")]
    return fleetfront.Task(
        name, lambda: Residual(CLASSES, inputs=3), *splits, workers=workers, batch_size=32,
        epoch_samples=min(1000, len(splits[0])), epochs={"short": 1, "full": 2},
        baseline=fleetfront.BaselineTraining(cycle_epochs=2, max_epochs=2))


def photos() -> fleetfront.Task:
    return _photos("photos", workers=2)


def few_photos() -> fleetfront.Task:
    """The same network on 64 photographs of each split: the memory of everything but data."""
    return _photos("few-photos", at_most=64, workers=2)
