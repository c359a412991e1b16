"""Checks that ONNX Runtime 1.11, the newest for a Jetson TX2, loads every file exported for that
device and computes the same outputs as the installed version.

    python -m benchmarks.tx2_files

One file per strategy of the catalog that the profile ``jetson_tx2`` allows, alone and followed by
pruning and clustering, of two networks with random weights. This tests loading and numerics on the
x86-64 build of 1.11; it was not tested on a TX2.
"""

import copy
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from benchmarks import ort111
from benchmarks.checks import Check, conclude, holds
from benchmarks.old_runtime import outputs_now
from profiles.schema import profile
from searcher.artifacts.formats.number_formats import tolerance
from searcher.devices.target import target_of
from searcher.errors import UserError
from searcher.statistics.parity import parity
from searcher.tasks.zoo.lenet5 import lenet5
from strategies.base import Limits, StrategyError
from strategies.catalog import all_strategies
from strategies.encoding.export import export_onnx
from strategies.encoding.finish import finish
from strategies.encoding.int8 import Int8
from strategies.layers import layers_of, select
from strategies.target import Target
from strategies.weights.clustering import Clustering
from strategies.weights.magnitude_pruning import MagnitudePruning

TX2 = "jetson_tx2"


class Residual(nn.Module):
    """Layers that LeNet-5 does not have: normalization, a sum, average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.second = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32))
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.last = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.relu(x + self.second(x))
        out: Tensor = self.last(self.pool(x).flatten(1))
        return out


NETWORKS: dict[str, Callable[[], nn.Module]] = {"lenet5": lenet5, "residual": Residual}


class _Middle:
    """A suggester that returns the middle of each range."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return (low * high) ** 0.5 if log else (low + high) / 2

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return (low + high) // 2


def pictures(n: int) -> Tensor:
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def recipes(target: Target) -> Iterator[tuple[str, list[Any]]]:
    """Name and steps of each recipe that the target allows. Training is omitted: it changes weights
    only."""
    yield "baseline", []
    yield "pruned and clustered", [MagnitudePruning(0.1), Clustering(4)]
    for cls in all_strategies():
        if cls.requires <= target.number_formats and cls.stage != "training":
            step = cls.suggest(_Middle(), [], Limits())
            yield cls.name, [step]
            if cls.stage == "structure":
                yield f"{cls.name}, pruned and clustered", [
                    step, MagnitudePruning(0.1), Clustering(4)]


def made_for(target: Target, steps: list[Any], network: str, scratch: Path) -> bytes:
    """The exported file for the device."""
    torch.manual_seed(0)
    model = NETWORKS[network]().eval()
    encodings = []
    for step in steps:
        layers = layers_of(model)
        names = list(dict.fromkeys(n for group in step.groups for n in select(layers, group)))
        if step.stage == "structure":
            model = step.apply(copy.deepcopy(model), names, (pictures(1),)).eval()
        elif step.stage == "weights":
            step.attach(model, names, number_format="float32")
        else:
            encodings.append(step)
    graph = export_onnx(model, (pictures(1),), target)
    for step in encodings:
        graph = step.encode(graph, (pictures(64),), target, scratch)
    return finish(graph, target).content


def files(target: Target, folder: Path) -> dict[str, Path]:
    """One file per recipe and network, by name."""
    found: dict[str, Path] = {}
    for network in NETWORKS:
        for name, steps in recipes(target):
            file = folder / f"{len(found)}.onnx"
            file.write_bytes(made_for(target, steps, network, folder))
            found[f"{network}: {name}"] = file
    return found


def format_of(file: Path) -> tuple[int, int]:
    """(opset of the standard operators, IR version)."""
    model = onnx.load(file)
    assert [entry.domain for entry in model.opset_import] == [""]
    return model.opset_import[0].version, model.ir_version


def checks(folder: Path) -> list[Check]:
    """Raises UserError when ONNX Runtime 1.11 cannot be obtained."""
    target = target_of(profile(TX2))
    made = files(target, folder)
    formats = sorted({format_of(file) for file in made.values()})
    inputs = pictures(4).numpy()
    now = outputs_now(list(made.values()), inputs)
    found = [holds("opset and IR version of the files", all(
        opset <= target.opset and ir <= target.ir_version for opset, ir in formats),
        ", ".join(f"{opset}/{ir}" for opset, ir in formats), f"at most {target.opset}/"
        f"{target.ir_version}"), _refuses_int8(target, folder)]
    try:
        old = ort111.outputs_of_ort111(list(made.values()), inputs)
    except ort111.Ort111Error as error:
        return [*found, holds("files that ONNX Runtime 1.11 loads", False, str(error)[:300], "all")]
    wrong = {name: why for name, new, other in zip(made, now, old, strict=True)
             if (why := parity(new.ravel().tolist(), other.ravel().tolist(), tolerance("float32")))}
    for name, why in wrong.items():
        print(f"{name}: {why}")
    same = sum(bool(np.array_equal(new, other)) for new, other in zip(now, old, strict=True))
    return [*found, holds("files that ONNX Runtime 1.11 loads and computes alike", not wrong,
                          f"{len(made) - len(wrong)} of {len(made)} ({same} bit by bit)", "all")]


def _refuses_int8(target: Target, folder: Path) -> Check:
    try:
        made_for(target, [Int8()], "lenet5", folder)
    except StrategyError as error:
        return holds("int8 for this device", error.reason == "unsupported_target",
                     f"refused: {error.reason}", "refused")
    return holds("int8 for this device", False, "made", "refused")


def main() -> int:
    absent = ort111.why_not()
    if absent is not None:
        raise SystemExit(absent)
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        try:
            return conclude(checks(Path(scratch)), "files for a Jetson TX2")
        except UserError as error:
            raise SystemExit(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
