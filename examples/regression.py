"""A number for each sample, judged by a metric of torchmetrics: the period of a noisy wave."""

import math

import torch
from torch import Tensor, nn

import fleetfront

LENGTH = 64


def waves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Waves (count, 1, 64) and their periods in samples (count, 1), from 4 to 16."""
    draw = torch.Generator().manual_seed(seed)
    periods = 4 + 12 * torch.rand(count, 1, generator=draw)
    phases = 2 * math.pi * torch.rand(count, 1, generator=draw)
    found = torch.sin(2 * math.pi * torch.arange(LENGTH) / periods + phases)
    return (found + 0.1 * torch.randn(count, LENGTH, generator=draw))[:, None], periods


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 16, 7, stride=2), nn.ReLU(), nn.Conv1d(16, 32, 5, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(416, 32), nn.ReLU(), nn.Linear(32, 1))


def task() -> fleetfront.Task:
    return fleetfront.Task(
        "regression", network, waves(1000, 0), waves(300, 1), waves(300, 2),
        loss=nn.functional.smooth_l1_loss, metric="torchmetrics.MeanAbsoluteError",
        epochs={"short": 1, "full": 2}, batch_size=32,
        baseline=fleetfront.BaselineTraining(learning_rate=3e-3, cycle_epochs=15, max_epochs=30,
                                             tolerance=0.02))
