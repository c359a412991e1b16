"""Pruning, distillation, export and static int8 with the usual libraries, without fleetfront."""

import contextlib
import copy
import io
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import torch_pruning
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.networks.catalog import Data, Int8, Network

BATCH, EVALUATION_BATCH, CALLS = 64, 100, 200
CALIBRATION_SAMPLES, CALIBRATION_BATCH = 128, 16
PERCENTILE = 99.99
TEMPERATURE, TEACHER_SHARE = 4.0, 0.5
OPSET = 17


# -- structure ------------------------------------------------------------------------------


def prunable(net: nn.Module) -> list[nn.Module]:
    """Layers whose outputs may be removed, in the order of definition: every convolution and
    fully connected layer but the last; in encoder layers of torch the first of the MLP only."""
    layers: list[nn.Module] = [
        m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    encoders = [m for m in net.modules() if isinstance(m, nn.TransformerEncoderLayer)]
    if encoders:
        return [encoder.linear1 for encoder in encoders]
    return layers[:-1]


def pruned(net: nn.Module, example: Tensor, ratio: float | dict[nn.Module, float],
           overall: bool = False, round_to: int = 8) -> nn.Module:
    """A copy without the channels of least group norm: ``ratio`` of every layer, or a ratio by
    layer of ``net``. ``overall``: one threshold for all layers instead."""
    names = {module: name for name, module in net.named_modules()}
    small = copy.deepcopy(net).eval()
    ratios = ratio if isinstance(ratio, dict) else {}
    chosen = {small.get_submodule(names[module]) for module in prunable(net)}
    ignored = [m for m in small.modules()
               if isinstance(m, nn.Conv2d | nn.Linear | nn.MultiheadAttention) and m not in chosen]
    kept = [m for m in ignored if not any(m is not o and m in set(o.modules()) for o in ignored)]
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parameters outside modules: none of them is pruned
        torch_pruning.pruner.BasePruner(
            small, example, torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio if isinstance(ratio, float) else 0.0,
            pruning_ratio_dict={small.get_submodule(names[m]): r for m, r in ratios.items()},
            global_pruning=overall, max_pruning_ratio=0.95, round_to=round_to,
            ignored_layers=kept).step()
    small(example)
    return small


# -- training -------------------------------------------------------------------------------


def logits_of(net: nn.Module, data: Data) -> Tensor:
    """Outputs of a network in evaluation mode over a data set, in order."""
    with torch.no_grad():
        return torch.cat([net(inputs) for inputs, _ in DataLoader(data, EVALUATION_BATCH)])


class WithLogits(torch.utils.data.Dataset[Any]):
    """Samples of a data set with the teacher's logits."""

    def __init__(self, data: Data, logits: Tensor) -> None:
        self.data, self.logits = data, logits

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, index: int) -> tuple[Tensor, Any, Tensor]:
        inputs, target = self.data[index]
        return inputs, target, self.logits[index]


def distilled(net: nn.Module, network: Network, taught: WithLogits, epochs: int,
              rate: float | None = None) -> nn.Module:
    """``net`` after ``epochs`` of distillation (Hinton et al. 2015), with the labels where there
    are some; AdamW, one cycle up to ``rate``, by default the network's."""
    if epochs == 0:
        return net.eval()
    loader = DataLoader(taught, BATCH, shuffle=True, drop_last=True)
    rate = network.learning_rate if rate is None else rate
    optimizer = torch.optim.AdamW(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * len(loader))
    net.train()
    for _ in range(epochs):
        for inputs, targets, teacher in loader:
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = nn.functional.kl_div(
                (outputs / TEMPERATURE).log_softmax(1), (teacher / TEMPERATURE).log_softmax(1),
                reduction="batchmean", log_target=True) * TEMPERATURE ** 2
            if network.labelled:
                loss = TEACHER_SHARE * loss + (1 - TEACHER_SHARE) * nn.functional.cross_entropy(
                    outputs, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return net.eval()


def statistics_updated(net: nn.Module, data: Data, samples: int = 1024) -> nn.Module:
    """``net`` with the statistics of BatchNorm estimated again, without training."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for number, (inputs, _) in enumerate(DataLoader(data, BATCH)):
            if number * BATCH >= samples:
                break
            net(inputs)
    return net.eval()


# -- files ----------------------------------------------------------------------------------


def exported(net: nn.Module, path: Path, example: Tensor) -> None:
    """Writes float32 ONNX with a free batch; the exporter folds BatchNorm."""
    content = io.BytesIO()
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), (example,), content,  # type: ignore[arg-type]
                          dynamo=False, opset_version=OPSET,
                          input_names=["input"], output_names=["output"],
                          dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}})
    path.write_bytes(content.getvalue())


class Reader(CalibrationDataReader):
    """Calibration inputs in batches, for onnxruntime."""

    def __init__(self, inputs: np.ndarray) -> None:
        self.batches = [inputs[i:i + CALIBRATION_BATCH]
                        for i in range(0, len(inputs), CALIBRATION_BATCH)]
        self.set_range(0, len(self.batches))

    def __len__(self) -> int:
        return len(self.batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.rest: Iterator[np.ndarray] = iter(self.batches[start_index:end_index])

    def get_next(self) -> Any:
        batch = next(self.rest, None)
        return None if batch is None else {"input": batch}


def quantized(source: Path, target: Path, inputs: np.ndarray, form: Int8) -> None:
    """Writes int8 in one of the forms of ``Network.int8``: QDQ, U8S8, a scale per channel."""
    static: dict[str, Any] = {"CalibStridedMinMax": 1}  # one batch in memory at a time
    if form == "percentile":
        static["CalibPercentile"] = PERCENTILE
    with tempfile.TemporaryDirectory(prefix="plain-") as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        if form == "dynamic":
            quantize_dynamic(prepared, target, per_channel=True, weight_type=QuantType.QInt8)
            return
        with contextlib.redirect_stdout(None):
            quantize_static(
                prepared, target, Reader(inputs), per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=(CalibrationMethod.Percentile if form == "percentile"
                                  else CalibrationMethod.MinMax), extra_options=static)


def calibration_inputs(data: Data, samples: int = CALIBRATION_SAMPLES) -> np.ndarray:
    """Inputs of evenly spaced samples."""
    positions = np.linspace(0, len(data) - 1, samples).astype(int)  # type: ignore[arg-type]
    return np.stack([data[int(i)][0].numpy() for i in positions])


# -- measuring ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """A split in memory-mapped form for files: inputs by batch and the right answers."""

    data: Data
    answers: np.ndarray

    def batches(self) -> Iterator[np.ndarray]:
        for inputs, _ in DataLoader(self.data, EVALUATION_BATCH):
            yield inputs.numpy()


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def answers_of(path: Path, data: Data) -> np.ndarray:
    """The largest output of each sample."""
    session = session_of(path)
    found = [session.run(None, {"input": inputs})[0].argmax(1)
             for inputs in Held(data, np.empty(0)).batches()]
    return np.concatenate(found)


def held(network: Network, data: Data, baseline: Path) -> Held:
    """The split with its labels or, without labels, the answers of the uncompressed network."""
    if not network.labelled:
        return Held(data, answers_of(baseline, data))
    return Held(data, np.concatenate([y.numpy() for _, y in DataLoader(data, EVALUATION_BATCH)]))


def quality(path: Path, split: Held) -> float:
    """Share of right answers of a file."""
    return float((answers_of(path, split.data) == split.answers).mean())


def latency_s(path: Path, example: np.ndarray, calls: int = CALLS) -> float:
    """Median latency of plain calls, one thread, batch 1."""
    session, times = session_of(path), []
    for _ in range(20 + calls):
        began = time.perf_counter()
        session.run(None, {"input": example})
        times.append(time.perf_counter() - began)
    return float(np.median(times[20:]))


def widths(net: nn.Module) -> Sequence[int]:
    return [m.out_channels if isinstance(m, nn.Conv2d) else m.out_features
            for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
