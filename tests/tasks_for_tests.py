"""A user's own task, small enough that a builder or a whole search takes fractions of a second."""

import functools
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from searcher.tasks.base import BaselineTraining, Split, Task
from searcher.tasks.stratified_split import stratified

CLASSES = 4
SAMPLES = 300
SIZES = {"training": 180, "validation": 60, "test": 60}


def network() -> nn.Module:
    """1,338 parameters; input (n, 1, 12, 12), output (n, 4) logits."""
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(1, 6, 3), relu1=nn.ReLU(), pool=nn.MaxPool2d(2),
        conv2=nn.Conv2d(6, 6, 3), relu2=nn.ReLU(), flatten=nn.Flatten(),
        fc1=nn.Linear(54, 16), relu3=nn.ReLU(), fc2=nn.Linear(16, CLASSES)))


@functools.cache
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Bars in four directions through noise: (300, 1, 12, 12) in steps of 1/255, and labels."""
    draw = np.random.default_rng(0)
    labels = np.arange(SAMPLES) % CLASSES
    images = draw.random((SAMPLES, 12, 12)) * 0.4
    steps = np.arange(12)
    for image, label in zip(images, labels, strict=True):
        offset = int(draw.integers(-3, 4))
        place = np.clip(steps + offset, 0, 11)
        middle = np.full(12, 6 + offset)
        rows, columns = ((middle, steps), (steps, middle), (steps, place),
                         (steps, 11 - place))[label]
        image[rows, columns] = 1.0
    return (np.round(images * 255) / 255).astype(np.float32)[:, None], labels.astype(np.int64)


@functools.cache
def _load() -> Mapping[str, Split]:
    images, labels = pictures()
    return {name: Split(images[index], labels[index])
            for name, index in stratified(labels, SIZES, seed=0).items()}


def brighten(images: Tensor, seed: int) -> Tensor:
    """Each picture times 0.8 to 1.0, in steps of 1/255 again."""
    factor = 0.8 + 0.2 * torch.rand(len(images), 1, 1, 1,
                                    generator=torch.Generator().manual_seed(seed))
    return (images * factor).mul(255).round_().div_(255)


def tiny() -> Task:
    """180 / 60 / 60 pictures."""
    return Task(
        name="tiny", model=network, load=_load, loss=nn.functional.cross_entropy,
        augment=brighten, identity={"pictures": "bars-0"}, epochs={"short": 1, "full": 3},
        batch_size=20, epoch_samples=180, augmented_epochs=2,
        baseline=BaselineTraining(learning_rate=1e-2, cycle_epochs=5, max_epochs=5))


class TwoInputs(nn.Module):
    """A picture of 8 bits and three tokens; answers the energy of the features, and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3)
        self.words = nn.Embedding(7, 8)
        self.hidden, self.head = nn.Linear(8 * 25, 8), nn.Linear(8, CLASSES)

    def forward(self, picture: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        pooled = torch.max_pool2d(torch.relu(self.convolution(picture.float() / 255)), 2)
        features = self.hidden(pooled.flatten(1)) + self.words(tokens).sum(1)
        return {"energy": features.square().sum(1), "logits": self.head(torch.relu(features))}


def _two_inputs() -> Mapping[str, Split]:
    """The first token is the label, two times out of three."""
    made = {}
    for name, split in _load().items():
        draw = np.random.default_rng(len(name))
        first = np.where(draw.random(len(split.targets)) < 2 / 3, split.targets, 5)
        tokens = np.stack([first, np.full_like(first, 4), np.full_like(first, 6)], axis=1)
        made[name] = Split({"picture": np.round(split.inputs * 255).astype(np.uint8),
                            "tokens": tokens}, split.targets)
    return made


def two_inputs() -> Task:
    """The pictures of ``tiny`` with three tokens each; the second of two outputs is judged."""
    return Task(
        name="two inputs", model=TwoInputs, load=functools.cache(_two_inputs), output="logits",
        loss=lambda found, labels: nn.functional.cross_entropy(found["logits"], labels),
        identity={"pictures": "bars-0"}, epochs={"short": 1, "full": 2}, batch_size=30,
        baseline=BaselineTraining(learning_rate=2e-2, cycle_epochs=4, max_epochs=4))


def no_task() -> str:
    """What a factory should not give."""
    return "tiny"
