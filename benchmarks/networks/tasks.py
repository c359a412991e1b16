"""The networks as tasks of fleetfront: ``--task benchmarks.networks.tasks:residual``.

The trained networks are the baselines as they are. Run from the root of the repository; the
folder of weights and crops is that of ``benchmarks.networks.storage``: $FLEETFRONT_NETWORKS.
"""

from typing import Any

from torch import Tensor

from benchmarks.networks.catalog import NETWORKS
from benchmarks.networks.photographs import photograph_names
from fleetfront import Task


def residual() -> Task:
    """Residual network with BatchNorm and depthwise layers, Fashion-MNIST."""
    return _labelled("residual")


def vgg() -> Task:
    """VGG-like network without BatchNorm, Fashion-MNIST."""
    return _labelled("vgg")


def vision_transformer() -> Task:
    """Vision transformer of torch's own encoder layers, Fashion-MNIST."""
    return _labelled("vision_transformer")


def mobilenet_v2() -> Task:
    """MobileNetV2 with ImageNet weights on unlabelled photographs, judged by the agreement with
    the uncompressed network; the intervals are by photograph."""
    network, names = NETWORKS["mobilenet_v2"], photograph_names()
    return Task("mobilenet_v2", network.module(), load=network.splits, loss=no_labels,
                metric="agreement", groups=lambda sample: names[sample[1]])


def no_labels(outputs: Tensor, targets: Any) -> Tensor:
    """Zero: the targets are numbers of photographs, and only a teacher trains the network."""
    return outputs.sum() * 0


def _labelled(name: str) -> Task:
    network = NETWORKS[name]
    return Task(name, network.module(), load=network.splits)
