"""A comparison script without fleetfront: a network compressed with plain Optuna.

    python -m benchmarks.plain_optuna --minutes 10 --out DIR --builds DIR/builds
    python -m benchmarks.plain_optuna --minutes 8 --out DIR --network residual --drop 0.02

LeNet-5: channel pruning per layer, SVD of fc1, int8 by onnxruntime, 1-2 epochs of fine-tuning on
12,000 digits. ``--network``: the techniques of ``benchmarks.plain_script`` as the space. Every
trial is trained. Latency is the median of 200 plain calls. It starts from the same trained
baseline, with the same splits and threads as the campaign it is compared with; nothing else is
shared.
"""

import argparse
import copy
import io
import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import nn

from benchmarks import plain_compression as plain
from benchmarks.networks.catalog import NETWORKS, Network

DIGITS, BATCH = 12_000, 128

Point = dict[str, Any]


def pruned(net: Any, c1: int, c2: int, hidden: int) -> Any:
    """Keeps the channels and units of largest weight norm."""
    def strongest(weight: Any, count: int) -> Any:
        return weight.flatten(1).norm(dim=1).topk(count).indices.sort().values

    net = copy.deepcopy(net)
    one, two, three, four = net.conv1, net.conv2, net.fc1, net.fc2
    keep1, keep2 = strongest(one.weight, c1), strongest(two.weight, c2)
    inputs = (keep2[:, None] * 16 + torch.arange(16)).flatten()  # 4x4 pixels a channel
    fc1_weight = three.weight[:, inputs]
    keep3 = strongest(fc1_weight, hidden)
    net.conv1, net.conv2 = nn.Conv2d(1, c1, 5), nn.Conv2d(c1, c2, 5)
    net.fc1, net.fc2 = nn.Linear(c2 * 16, hidden), nn.Linear(hidden, 10)
    for layer, weight, bias in ((net.conv1, one.weight[keep1], one.bias[keep1]),
                                (net.conv2, two.weight[keep2][:, keep1], two.bias[keep2]),
                                (net.fc1, fc1_weight[keep3], three.bias[keep3]),
                                (net.fc2, four.weight[:, keep3], four.bias)):
        layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return net


def factorised(net: Any, rank: int) -> Any:
    u, s, v = torch.linalg.svd(net.fc1.weight.detach(), full_matrices=False)
    rank = min(rank, len(s))
    first = nn.Linear(net.fc1.in_features, rank, bias=False)
    second = nn.Linear(rank, net.fc1.out_features)
    root = s[:rank].sqrt()
    first.weight, second.weight = nn.Parameter(root[:, None] * v[:rank]), nn.Parameter(
        u[:, :rank] * root)
    second.bias = nn.Parameter(net.fc1.bias.detach())
    net.fc1 = nn.Sequential(first, second)
    return net


def finetuned(net: Any, inputs: torch.Tensor, labels: torch.Tensor, epochs: int,
              rate: float) -> Any:
    optimizer = torch.optim.AdamW(net.parameters(), rate)
    digits = min(DIGITS, len(labels))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=epochs * -(-digits // BATCH))
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(labels))[:digits]
        for batch in order.split(BATCH):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(inputs[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return net.eval()


class Calibration(CalibrationDataReader):
    def __init__(self, inputs: np.ndarray) -> None:
        self.batches = iter([{"input": inputs[:200]}])

    def get_next(self) -> Any:
        return next(self.batches, None)


def exported(net: Any, path: Path, int8: bool, calibration: np.ndarray) -> None:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), (torch.zeros(1, 1, 28, 28),),
                          content, dynamo=False, opset_version=13,  # type: ignore[arg-type]
                          input_names=["input"], output_names=["output"],
                          dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}})
    path.write_bytes(content.getvalue())
    if int8:
        quantize_static(path, path, Calibration(calibration), per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def measured(path: Path, inputs: np.ndarray, labels: np.ndarray) -> Point:
    """Accuracy and the median latency of plain calls, one thread, batch 1."""
    session = plain.session_of(path)
    answers = [session.run(None, {"input": inputs[i:i + 500]})[0].argmax(1)
               for i in range(0, len(labels), 500)]
    return {"file": path.name, "accuracy": float((np.concatenate(answers) == labels).mean()),
            "latency_s": plain.latency_s(path, inputs[:1]), "file_bytes": path.stat().st_size}


@dataclass(frozen=True)
class Setup:
    """What is searched: ``small`` gives the compressed and trained network of a trial, ``write``
    its file, in int8 or not, and ``measure`` the figures of a file."""

    baseline: Any
    small: Callable[[optuna.Trial], Any]
    write: Callable[[Any, Path, bool], None]
    measure: Callable[[Path], Point]


def lenet5(net: Any, splits: Any) -> Setup:
    """Channels of each layer, rank of fc1, epochs and learning rate."""
    inputs = torch.from_numpy(splits["training"].inputs)
    labels = torch.from_numpy(splits["training"].targets)
    validation = splits["validation"]

    def small(trial: optuna.Trial) -> Any:
        found = pruned(net, trial.suggest_int("c1", 2, 20, log=True),
                       trial.suggest_int("c2", 4, 50, log=True),
                       trial.suggest_int("hidden", 8, 500, log=True))
        if trial.suggest_categorical("svd", [False, True]):
            found = factorised(found, trial.suggest_int("rank", 2, 64, log=True))
        return finetuned(found, inputs, labels, trial.suggest_int("epochs", 1, 2),
                         trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True))

    return Setup(
        net, small,
        lambda model, path, int8: exported(model, path, int8, splits["training"].inputs),
        lambda path: measured(path, validation.inputs, validation.targets))


def network_setup(network: Network, net: nn.Module, out: Path) -> Setup:
    """The techniques of the plain script: a ratio for each quarter of the layers, or one threshold
    for all of them, epochs and learning rate of the distillation."""
    splits = network.splits()
    example = torch.zeros(1, *network.input_shape)
    calibration = plain.calibration_inputs(splits["training"])
    taught = plain.WithLogits(splits["training"], plain.logits_of(net, splits["training"]))
    plain.exported(net, out / "baseline.onnx", example)
    validation = plain.held(network, splits["validation"], out / "baseline.onnx")

    def small(trial: optuna.Trial) -> nn.Module:
        overall = trial.suggest_categorical("overall", [False, True])
        if overall:
            found = plain.pruned(net, example, trial.suggest_float("ratio", 0.0, 0.95), True,
                                 network.round_to)
        else:
            ratios = {layer: trial.suggest_float(f"ratio_{part}", 0.0, 0.95)
                      for part, layers in enumerate(quarters(plain.prunable(net)))
                      for layer in layers}
            found = plain.pruned(net, example, ratios, False, network.round_to)
        return plain.distilled(found, network, taught, trial.suggest_int("epochs", 1, 3),
                               trial.suggest_float("learning_rate", 5e-4, 5e-3, log=True))

    def write(model: nn.Module, path: Path, int8: bool) -> None:
        plain.exported(model, path, example)
        if int8:
            plain.quantized(path, path, calibration, network.int8[0])

    def measure(path: Path) -> Point:
        return {"file": path.name, "accuracy": plain.quality(path, validation),
                "latency_s": plain.latency_s(path, calibration[:1]),
                "file_bytes": path.stat().st_size}

    return Setup(net, small, write, measure)


def quarters(layers: Sequence[nn.Module]) -> list[Sequence[nn.Module]]:
    """Consecutive parts of nearly equal length, none empty."""
    count = min(4, len(layers))
    edges = [round(i * len(layers) / count) for i in range(count + 1)]
    return [layers[start:end] for start, end in pairwise(edges)]


def search(setup: Setup, out: Path, minutes: float, sampler: str, seed: int, drop: float
           ) -> tuple[Point, list[Point]]:
    setup.write(setup.baseline, out / "baseline.onnx", False)
    baseline = setup.measure(out / "baseline.onnx")
    began = time.monotonic()
    points: list[Point] = []

    def objective(trial: optuna.Trial) -> tuple[float, float, float]:
        small = setup.small(trial)
        path = out / f"trial-{trial.number}.onnx"
        setup.write(small, path, trial.suggest_categorical("int8", [False, True]))
        point = setup.measure(path)
        points.append({**point, **trial.params, "at_s": time.monotonic() - began})
        (out / "points.json").write_text(json.dumps({"baseline": baseline, "points": points}))
        trial.set_constraint("accuracy", baseline["accuracy"] - drop - point["accuracy"])
        return point["accuracy"], point["latency_s"], point["file_bytes"]

    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler={
        "tpe": optuna.samplers.TPESampler, "nsga2": optuna.samplers.NSGAIISampler,
        "random": optuna.samplers.RandomSampler}[sampler](seed=seed))
    study.optimize(objective, timeout=minutes * 60)
    return baseline, points


def main() -> None:
    # fleetfront provides only the weights and the splits, so that both searches start equally.
    from searcher.builders.builder import Builder
    from searcher.spec.recipe import Recipe
    from searcher.tasks.catalog import task

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", choices=sorted(NETWORKS.keys() - {"lenet5"}),
                        help="a trained network instead of LeNet-5")
    parser.add_argument("--builds", type=Path, help="where the baseline of LeNet-5 is kept")
    parser.add_argument("--task", default="lenet5-mnist-full", help="of LeNet-5")
    parser.add_argument("--drop", type=float, default=0.01, help="loss allowed on validation")
    parser.add_argument("--sampler", choices=("tpe", "nsga2", "random"), default="tpe")
    parser.add_argument("--seed", type=int, default=0, help="of sampler and training")
    parser.add_argument("--baseline-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of training")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer's advice, at every trial
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    if arguments.network:
        network = NETWORKS[arguments.network]
        setup = network_setup(network, network.module(), arguments.out)
    else:
        builder = Builder(task(arguments.task), arguments.baseline_seed, arguments.builds)
        load = task(arguments.task).load
        assert load is not None
        setup = lenet5(builder.model(Recipe(), "full"), load())
    baseline, points = search(setup, arguments.out, arguments.minutes, arguments.sampler,
                              arguments.seed, arguments.drop)
    good = [p for p in points if p["accuracy"] >= baseline["accuracy"] - arguments.drop]
    print(f"{len(points)} trials, {len(good)} within {arguments.drop * 100:g} points on validation")
    if good:
        smaller = baseline["file_bytes"] / min(p["file_bytes"] for p in good)
        faster = baseline["latency_s"] / min(p["latency_s"] for p in good)
        print(f"by its own figures {smaller:.1f}x smaller, {faster:.1f}x faster")


if __name__ == "__main__":
    main()
