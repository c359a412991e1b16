"""A comparison script without fleetfront: LeNet-5 compressed with plain Optuna.

    python -m benchmarks.plain_optuna --minutes 10 --out DIR --builds DIR/builds

Channel pruning per layer, SVD of fc1, int8 by onnxruntime, 1-2 epochs of fine-tuning on 12,000
digits. Latency is the median of 200 plain calls. It starts from the same trained baseline, with
the same splits and threads as the campaign it is compared with; nothing else is shared.
"""

import argparse
import copy
import io
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import optuna
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import nn

DIGITS, BATCH, CALLS = 12_000, 128, 200

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
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    answers = [session.run(None, {"input": inputs[i:i + 500]})[0].argmax(1)
               for i in range(0, len(labels), 500)]
    times, one = [], inputs[:1]
    for _ in range(20 + CALLS):
        began = time.perf_counter()
        session.run(None, {"input": one})
        times.append(time.perf_counter() - began)
    return {"file": path.name, "accuracy": float((np.concatenate(answers) == labels).mean()),
            "latency_s": float(np.median(times[20:])), "file_bytes": path.stat().st_size}


def search(net: Any, splits: Any, out: Path, minutes: float, sampler: str,
           seed: int) -> tuple[Point, list[Point]]:
    inputs = torch.from_numpy(splits["training"].inputs)
    labels = torch.from_numpy(splits["training"].targets)
    validation = splits["validation"]
    exported(net, out / "baseline.onnx", False, splits["training"].inputs)
    baseline = measured(out / "baseline.onnx", validation.inputs, validation.targets)
    began = time.monotonic()
    points: list[Point] = []

    def objective(trial: optuna.Trial) -> tuple[float, float, float]:
        small = pruned(net, trial.suggest_int("c1", 2, 20, log=True),
                       trial.suggest_int("c2", 4, 50, log=True),
                       trial.suggest_int("hidden", 8, 500, log=True))
        if trial.suggest_categorical("svd", [False, True]):
            small = factorised(small, trial.suggest_int("rank", 2, 64, log=True))
        small = finetuned(small, inputs, labels, trial.suggest_int("epochs", 1, 2),
                          trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True))
        path = out / f"trial-{trial.number}.onnx"
        exported(small, path, trial.suggest_categorical("int8", [False, True]),
                 splits["training"].inputs)
        point = measured(path, validation.inputs, validation.targets)
        points.append({**point, **trial.params, "at_s": time.monotonic() - began})
        (out / "points.json").write_text(json.dumps({"baseline": baseline, "points": points}))
        trial.set_constraint("accuracy", baseline["accuracy"] - 0.01 - point["accuracy"])
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
    parser.add_argument("--builds", type=Path, required=True, help="where the baseline is kept")
    parser.add_argument("--task", default="lenet5-mnist-full")
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
    builder = Builder(task(arguments.task), arguments.baseline_seed, arguments.builds)
    net = builder.model(Recipe(), "full")
    load = task(arguments.task).load
    assert load is not None, "built-in tasks load their splits"
    baseline, points = search(net, load(), arguments.out, arguments.minutes,
                              arguments.sampler, arguments.seed)
    good = [p for p in points if p["accuracy"] >= baseline["accuracy"] - 0.01]
    print(f"{len(points)} trials, {len(good)} within one point on validation")
    if good:
        smaller = baseline["file_bytes"] / min(p["file_bytes"] for p in good)
        faster = baseline["latency_s"] / min(p["latency_s"] for p in good)
        print(f"by its own figures {smaller:.1f}x smaller, {faster:.1f}x faster")


if __name__ == "__main__":
    main()
