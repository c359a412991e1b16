"""LeNet-5 as Han et al. 2015 pruned it: 20 and 50 5x5 filters, 500 hidden units."""

from collections import OrderedDict

from torch import nn


def lenet5(classes: int = 10) -> nn.Module:
    """431,080 parameters for 10 classes; input (n, 1, 28, 28), output (n, classes) logits."""
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(1, 20, 5),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(20, 50, 5),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(800, 500),
        relu3=nn.ReLU(),
        fc2=nn.Linear(500, classes),
    ))
