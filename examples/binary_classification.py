"""Two classes and one logit: is there a bright blob in the noise?"""

import torch
from torch import Tensor, nn

import fleetfront

SIDE = 12


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(count, 1, 12, 12) and labels 0 or 1; one picture of three has a blob."""
    draw = torch.Generator().manual_seed(seed)
    found = 0.5 * torch.randn(count, 1, SIDE, SIDE, generator=draw)
    labels = (torch.arange(count) % 3 == 0).long()
    for number in labels.nonzero()[:, 0].tolist():
        row, column = torch.randint(0, SIDE - 3, (2,), generator=draw).tolist()
        found[number, 0, row:row + 3, column:column + 3] += 1
    return found, labels


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Of one logit for each picture."""
    return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1),
        nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))


def task() -> fleetfront.Task:
    return fleetfront.Task(
        "binary", network, pictures(900, 0), pictures(300, 1), pictures(300, 2), loss=loss,
        metric="binary_accuracy", epochs={"short": 1, "full": 2}, batch_size=32,
        baseline=fleetfront.BaselineTraining(learning_rate=4e-3, cycle_epochs=8, max_epochs=16))
