"""Small networks with random weights for the tests of the encoding stage."""

import torch
from onnx import ModelProto, helper
from torch import Tensor, nn


def lenet5() -> nn.Module:
    """LeNet-5 as Han 2015 used it: 431,080 parameters."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    ).eval()


def thin() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    ).eval()


class Residual(nn.Module):
    """Normalization, a shared input and a sum: what LeNet-5 lacks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.last = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.relu(x + self.second(x))
        return self.last(self.pool(x).flatten(1))


def as_exporters_leave_it(graph: ModelProto) -> ModelProto:
    """The graph with every bias read through Identity and an import that no node uses."""
    raw = ModelProto()
    raw.CopyFrom(graph)
    for node in [node for node in raw.graph.node if node.op_type in ("Conv", "Gemm")]:
        copied = helper.make_node("Identity", [node.input[2]], [f"{node.input[2]}~copy"])
        raw.graph.node.insert(0, copied)
        node.input[2] = copied.output[0]
    raw.opset_import.append(helper.make_opsetid("ai.onnx.ml", 5))
    return raw


def weighted(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)}


def thin_out(model: nn.Module, share: float) -> nn.Module:
    """Keep the largest ``share`` of each weight."""
    for module in weighted(model).values():
        weight = module.weight.data
        limit = weight.abs().flatten().quantile(1 - share)
        module.weight.data = torch.where(weight.abs() > limit, weight, torch.zeros(()))
    return model


def shared(model: nn.Module, count: int) -> nn.Module:
    """At most ``count`` distinct values per weight; zeros stay zero and count as one."""
    for module in weighted(model).values():
        weight = module.weight.data
        some = weight[weight != 0].flatten()
        centres = torch.linspace(float(some.min()), float(some.max()), count - 1)
        nearest = centres[(weight[..., None] - centres).abs().argmin(-1)]
        module.weight.data = torch.where(weight != 0, nearest, weight)
    return model


def on_int8_grid(model: nn.Module, count: int) -> dict[str, Tensor]:
    """Round each weight to ``count`` multiples of a scale per output channel; the scales."""
    scales = {}
    for name, module in weighted(model).items():
        weight = module.weight.data
        scale = weight.abs().amax(tuple(range(1, weight.ndim))) / 120
        column = scale.view(-1, *[1] * (weight.ndim - 1))
        table = torch.linspace(-119, 119, count).round()
        nearest = table[(weight / column)[..., None].sub(table).abs().argmin(-1)]
        module.weight.data = nearest * column
        scales[f"{name}.weight"] = scale
    return scales
