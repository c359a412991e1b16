"""Small networks and a few batches of noise, for tests of strategies."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from strategies.base import Answer, Batch

EXAMPLE = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(3))


def plain() -> nn.Sequential:
    """Two convolutions ("0", "3") and two fully connected layers ("7", "9")."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3), nn.ReLU(), nn.MaxPool2d(2, stride=1),
        nn.Flatten(), nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 10),
    ).eval()


class Residual(nn.Module):
    """Normalization, a sum over two paths, and statistics that are not the initial ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.hidden = nn.Linear(256, 32)
        self.last = nn.Linear(32, 10)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                nn.init.uniform_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.bias)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.relu(x + self.second(x))
        pooled = self.pool(x).flatten(1)
        outputs: Tensor = self.last(torch.relu(self.hidden(pooled)))
        return outputs


class Noise:
    """``strategies.base.TrainingData`` of random pictures and targets."""

    answer: Answer = "classes"

    def __init__(self, batches: int = 6, metrics: tuple[float, ...] = ()) -> None:
        self.batches_per_epoch = batches
        self.epochs: list[int] = []
        self.asked = 0
        self._metrics = metrics

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def main_output(self, outputs: Any) -> Tensor:
        first: Tensor = outputs
        return first

    def batches(self, epoch: int) -> Iterator[Batch]:
        self.epochs.append(epoch)
        for index in range(self.batches_per_epoch):
            source = torch.Generator().manual_seed(1000 * epoch + index)
            yield Batch((epoch, index), (torch.rand(16, 1, 12, 12, generator=source),),
                        torch.randint(0, 10, (16,), generator=source))

    def validation_metric(self, model: nn.Module) -> float:
        self.asked += 1
        return self._metrics[self.asked - 1]


def equal_states(one: nn.Module, other: nn.Module) -> bool:
    """Whether weights, parametrizations and buffers are the same, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)
