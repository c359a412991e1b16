"""A network and a Dataset of one's own: pictures of a bar in four directions, drawn when read."""

import torch
from torch import nn
from torch.utils.data import Dataset

import fleetfront

FIRST = {"training": 0, "validation": 10_000, "test": 20_000}
SIDE = 12


class Bars(Dataset):
    """Sample ``number`` is a bar that stands, lies or leans either way, at a place of its own."""

    def __init__(self, split: str, size: int) -> None:
        self.first, self.size = FIRST[split], size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        draw = torch.Generator().manual_seed(self.first + number)
        label, shift = number % 4, int(torch.randint(-3, 4, (1,), generator=draw))
        rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        along = (columns - 6, rows - 6, rows - columns, rows + columns - SIDE + 1)[label]
        picture = 0.4 * torch.rand(SIDE, SIDE, generator=draw) + 0.6 * (along == shift)
        return (picture[None] - 0.25) / 0.2, label


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(picture))


def task() -> fleetfront.Task:
    """The network is trained first. A module with trained weights, without ``baseline``, would be
    the baseline as it is."""
    return fleetfront.Task(
        "own-model", Net, Bars("training", 800), Bars("validation", 200), Bars("test", 200),
        baseline=fleetfront.BaselineTraining(learning_rate=5e-3, cycle_epochs=4, max_epochs=8),
        epochs={"short": 1, "full": 2}, batch_size=32)
