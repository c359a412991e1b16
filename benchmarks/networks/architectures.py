"""Four networks in plain torch: residual, VGG-like, vision transformer, MobileNetV2."""

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Convolution, depthwise and pointwise convolution with BatchNorm, and a shortcut."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False),
            nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.shortcut = nn.Identity() if inputs == channels and stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class Residual(nn.Module):
    """Stem of 32 channels and five blocks for pictures of 28x28: 382 K parameters."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32),
                                  nn.ReLU())
        self.blocks = nn.Sequential(
            ResidualBlock(32, 64, 1), ResidualBlock(64, 64, 2), ResidualBlock(64, 64, 1),
            ResidualBlock(64, 128, 2), ResidualBlock(128, 128, 1))
        self.head = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


def vgg(classes: int = 10) -> nn.Sequential:
    """Six convolutions and two fully connected layers without BatchNorm for pictures of 28x28:
    882 K parameters."""
    layers: list[nn.Module] = []
    inputs = 1
    for channels in (32, 64, 128):
        layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU(),
                   nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        inputs = channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 3 * 3, 512), nn.ReLU(),
                         nn.Linear(512, classes))


class VisionTransformer(nn.Module):
    """Four encoder layers of torch, 64 wide, 4 heads, on 49 patches of 4x4: 205 K parameters."""

    def __init__(self, classes: int = 10, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.positions = nn.Parameter(torch.randn(1, 49, width) * 0.02)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.1, batch_first=True,
                                       norm_first=True),
            depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(  # type: ignore[no-any-return]
            self.norm(self.encoder(tokens)).mean(1))


class InvertedResidual(nn.Module):
    """Block of MobileNetV2 (arXiv 1801.04381), named as in torchvision."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[nn.Module] = [_conv_bn(inputs, hidden, 1)] if expand != 1 else []
        layers += [_conv_bn(hidden, hidden, 3, stride, groups=hidden),
                   nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*layers)
        self.added = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.added else y


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1,
             groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs), nn.ReLU6())


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1 for pictures of 224x224: 3.5 M parameters. The names of the
    parameters are torchvision's, so that its weights load."""

    SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                (6, 160, 3, 2), (6, 320, 1, 1))
    """Expansion, channels, blocks and stride of the first block."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn(3, 32, 3, 2)]
        inputs = 32
        for expand, channels, blocks, stride in self.SETTINGS:
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, channels, stride if block == 0 else 1,
                                               expand))
                inputs = channels
        self.features = nn.Sequential(*layers, _conv_bn(inputs, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(  # type: ignore[no-any-return]
            self.features(x).mean((2, 3)))
