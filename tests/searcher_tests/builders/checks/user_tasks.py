"""Tasks with the mistakes of users: four kinds of small pictures, one mistake in each factory."""

import dataclasses
import functools
from collections import namedtuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from searcher.tasks.base import BaselineTraining, Task

SIZES = {"training": 200, "validation": 240, "test": 120}
TRAINED = BaselineTraining(cycle_epochs=1, max_epochs=1)
Answer = namedtuple("Answer", ["logits", "auxiliary"])


@functools.cache
def pictures(split, classes=4):
    """(n, 1, 8, 8) float32 and labels (n,) int64: a bright quarter says the class."""
    draw = np.random.default_rng(list(SIZES).index(split))
    n = SIZES[split]
    inputs, labels = draw.random((n, 1, 8, 8)) * 0.5, np.arange(n) % classes
    for picture, label in zip(inputs[:, 0], labels, strict=True):
        row, column = divmod(label, 2)
        picture[4 * row:4 * row + 4, 4 * column:4 * column + 4] += 0.5
    return inputs.astype(np.float32), labels.astype(np.int64)


def network(outputs=4, channels=1):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(),
                         nn.Linear(144, outputs))


def made(change=lambda x, y: (x, y), model=network, classes=4, only=None, **fields):
    """A task whose data went through ``change``, in all splits or in ``only``."""
    data = {split: change(*pictures(split, classes)) if only in (None, split)
            else pictures(split, classes) for split in SIZES}
    return Task("mistake", model, **{"baseline": TRAINED, **data, **fields})


class Samples(Dataset):
    """``change(picture, label, number)`` gives the sample."""

    def __init__(self, split, change=lambda x, y, i: (x, y)):
        self.split, self.change = split, change

    def __len__(self):
        return SIZES[self.split]

    def __getitem__(self, i):
        x, y = pictures(self.split)
        return self.change(torch.from_numpy(x[i]), int(y[i]), i)


def of_dataset(change=lambda x, y, i: (x, y), model=network, only=None, **fields):
    data = {split: Samples(split, change) if only in (None, split) else Samples(split)
            for split in SIZES}
    return Task("mistake", model, **{"baseline": TRAINED, **data, **fields})


# targets

def from_one():
    return made(lambda x, y: (x, y + 1))

def one_hot():
    return made(lambda x, y: (x, np.eye(4, dtype=np.int64)[y]))

def float_labels():
    return made(lambda x, y: (x, y.astype(np.float32)))

def column_labels():
    return made(lambda x, y: (x, y[:, None]))

def ignored_labels():
    return made(lambda x, y: (x, np.where(np.arange(len(y)) % 7 == 0, -1, y)))

def too_few_outputs():
    return made(model=lambda: network(3))

def one_class():
    return made(lambda x, y: (x, y * 0))

def missing_class():
    return made(lambda x, y: (x, np.where(y == 3, 0, y)), only="training")

def minus_and_plus():
    return made(lambda x, y: (x, y * 2 - 1), classes=2, model=lambda: network(1),
                metric="binary_accuracy", loss=lambda out, y: nn.functional.soft_margin_loss(
                    out[:, 0], y.float()))

def one_logit():
    return made(classes=2, model=lambda: network(1), loss=one_logit_loss)

def one_logit_loss(out, y):
    return nn.functional.binary_cross_entropy_with_logits(out[:, 0], y.float())

def unsqueezed_logit():
    return made(classes=2, model=lambda: network(1), metric="binary_accuracy",
                loss=nn.functional.binary_cross_entropy_with_logits)

def rare_class():
    return made(lambda x, y: (x, (np.arange(len(y)) % 20 == 0).astype(np.int64)),
                model=lambda: network(2))

def ignored_pixels():
    def masks(x, y):
        mask = np.broadcast_to(y[:, None, None] % 2, (len(y), 8, 8)).copy()
        mask[:, 0] = 255
        return x, mask
    return made(masks, model=lambda: nn.Conv2d(1, 2, 3, padding=1), metric="mean_iou")


# inputs

def channels_last():
    return made(lambda x, y: (np.repeat(np.moveaxis(x, 1, 3), 3, 3), y),
                model=lambda: network(channels=3))

def grey_for_colour():
    return made(model=lambda: network(channels=3))

def no_channel():
    return made(lambda x, y: (x[:, 0], y))

def uint8_pictures():
    return made(lambda x, y: ((x * 255).astype(np.uint8), y))

def unscaled_pictures():
    return made(lambda x, y: ((x * 255).round().astype(np.float32), y))

def other_scale():
    return made(lambda x, y: ((x - 0.4) / 0.2, y), only="training")

def nan_inputs():
    def spoilt(x, y):
        x = x.copy()
        x[713 % len(x), 0, 3, 3] = np.nan
        return x, y
    return made(spoilt, only="validation")

def ragged():
    return of_dataset(lambda x, y, i: (x[:, :7] if i == 5 else x, y), only="training")

def paths():
    return of_dataset(lambda x, y, i: (f"pictures/{i}.png", y))

def nothing():
    return of_dataset(lambda x, y, i: None if i == 5 else (x, y), only="training")

def no_target():
    return of_dataset(lambda x, y, i: x)

def raises_at_713():
    def sample(x, y, i):
        if i == 713:
            raise OSError("image file is truncated")
        return torch.zeros(1, 8, 8) + i / 1000, i % 4
    class Long(Samples):
        def __len__(self):
            return 800
        def __getitem__(self, i):
            return sample(None, None, i)
    return Task("mistake", network, Long("training"), Samples("validation"), Samples("test"),
                baseline=TRAINED)

def empty():
    return made(lambda x, y: (x[:0], y[:0]), only="training")

def lengths():
    return made(lambda x, y: (x[:-1], y), only="validation")

class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(*pictures("training"), strict=True)

def stream():
    return Task("mistake", network, Stream(), Samples("validation"), baseline=TRAINED)

def overlap():
    return Task("mistake", network, pictures("training"), pictures("training"), baseline=TRAINED)

def few_overlap():
    x, y = pictures("validation")
    shared = np.concatenate([x[:1], pictures("test")[0]]), np.concatenate([y[:1],
                                                                         pictures("test")[1]])
    return Task("mistake", network, pictures("training"), (x, y), shared, baseline=TRAINED)

def random_validation():
    return of_dataset(lambda x, y, i: (x + torch.rand(()), y), only="validation")

def unpicklable_workers():
    return Task("mistake", network, DataLoader(Samples("training", lambda x, y, i: (x, y)),
                                               num_workers=2),
                Samples("validation"), workers=2, baseline=TRAINED)


# model and loss

def softmax_twice():
    return made(model=lambda: nn.Sequential(network(), nn.Softmax(1)))

def sigmoid_twice():
    return made(classes=2, model=lambda: nn.Sequential(network(1), nn.Sigmoid(), nn.Flatten(0)),
                metric="binary_accuracy", loss=nn.BCEWithLogitsLoss())

def frozen():
    return made(model=lambda: network().requires_grad_(False))

def parallel():
    return made(model=lambda: nn.DataParallel(network()))

def lazy():
    return made(model=lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(4)))

def on_meta():
    return made(model=lambda: network().to("meta"))

def nan_weights():
    return made(model=lambda: nan_network())

def nan_network():
    model = network()
    with torch.no_grad():
        model[0].bias.fill_(float("nan"))
    return model

class Returns(nn.Module):
    """Gives what ``change`` makes of the logits in training mode, else in evaluation mode."""

    def __init__(self, training=None, evaluation=None):
        super().__init__()
        self.net, self.changes = network(), (training, evaluation)

    def forward(self, x):
        change = self.changes[0 if self.training else 1]
        logits = self.net(x)
        return logits if change is None else change(logits)

def auxiliary_in_training():
    return made(model=lambda: Returns(lambda out: Answer(out, out)))

def gives_none():
    return made(model=lambda: Returns(None, lambda out: None))

def gives_list():
    return made(model=lambda: Returns(None, lambda out: out.tolist()))

def mean_over_batch():
    return made(model=lambda: Returns(None, lambda out: out.mean()))

def infinite_loss():
    return made(loss=lambda out, y: -torch.log(out.softmax(1)[:, 0] * 0).mean())

def detached_loss():
    return made(loss=lambda out, y: nn.functional.cross_entropy(out, y).detach())

def loss_per_sample():
    return made(loss=functools.partial(nn.functional.cross_entropy, reduction="none"))

def untrained_as_given():
    torch.manual_seed(0)
    return made(model=network(), baseline=None)

def unknown_metric():
    return made(metric="acuracy")

def random_weights():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
            with torch.no_grad():
                self.net[3].weight += torch.from_numpy(
                    np.random.default_rng().random((4, 144)).astype(np.float32))
        def forward(self, x):
            return self.net(x)
    return made(model=Other(), baseline=None)

def augment_changes_shape():
    return made(augment=lambda x, seed: x[:, :, 1:])

def augment_without_seed():
    return made(augment=lambda x, seed: x + torch.from_numpy(
        np.random.default_rng().random(x.shape).astype(np.float32)))

def batch_size_in_graph():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
        def forward(self, x):
            return self.net(x) + torch.arange(float(len(x.tolist())))[:, None]
    return made(model=Fixed)

def no_export():
    class Bessel(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
        def forward(self, x):
            out = self.net(x)
            return torch.special.bessel_j0(out.detach()) + out
    return made(model=Bessel)


# sound ones

def sound():
    return made()

def sound_dataset():
    return of_dataset()

def raises():
    raise KeyError("weights.pt")

def gives_a_model():
    return network()

def carved():
    return dataclasses.replace(made(), test=None)
