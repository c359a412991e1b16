"""A class for each pixel, judged by the mean intersection over union (mIoU)."""

import torch
from torch import Tensor, nn

import fleetfront

SIDE, UNLABELLED = 16, 255


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (count, 1, 16, 16) and masks (count, 16, 16): 0 for ground, 1 for a bright square, 2
    for a dark one; the border of a picture has no label."""
    draw = torch.Generator().manual_seed(seed)
    pictures = 0.3 * torch.randn(count, 1, SIDE, SIDE, generator=draw)
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    for picture, mask in zip(pictures, masks, strict=True):
        for label, value in ((1, 1.0), (2, -1.0)):
            row, column = torch.randint(0, SIDE - 5, (2,), generator=draw).tolist()
            picture[0, row:row + 5, column:column + 5] = value + 0.3 * torch.randn(
                5, 5, generator=draw)
            mask[row:row + 5, column:column + 5] = label
    masks[:, 0] = masks[:, -1] = UNLABELLED
    return pictures, masks


def loss(logits: Tensor, masks: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, masks, ignore_index=UNLABELLED)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1))


def task() -> fleetfront.Task:
    return fleetfront.Task(
        "segmentation", network, scenes(300, 0), scenes(120, 1), scenes(120, 2), loss=loss,
        metric=f"mean_iou(ignore_index={UNLABELLED})", epochs={"short": 1, "full": 2},
        batch_size=20,
        baseline=fleetfront.BaselineTraining(learning_rate=1e-2, cycle_epochs=12, max_epochs=24))
