"""Rows about the model: parameters, outputs, one training step, export and parity of the file."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from searcher.artifacts.formats import registry as formats
from searcher.artifacts.formats.onnx import session
from searcher.builders.checks.look import tensors_of, type_text
from searcher.builders.checks.rows import Table
from searcher.tasks.base import SampleBatch, Task
from searcher.tasks.user_code import described, raised
from strategies.base import StrategyError
from strategies.encoding.export import Names, export_onnx
from strategies.encoding.finish import finish
from strategies.signature import named_outputs
from strategies.target import Target

PARITY = 1e-3
"""Largest difference between file and module, relative to the largest output."""
TIMED_STEPS = 3
BATCH_ADVICE = ("Let forward depend on its inputs only: not on random numbers, and not on the size "
                "of the batch or on values as Python numbers, which the export freezes.")

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def check_model(table: Table, model: nn.Module, by_recipe: bool) -> bool:
    """Rows of the module itself; whether it can be run."""
    kind = type(model).__name__
    if isinstance(model, _WRAPPERS):
        table.fail("model", f"It is wrapped in {kind}.", "Give the module inside: model.module.")
        return False
    lazy = [name for name, value in (*model.named_parameters(), *model.named_buffers())
            if nn.parameter.is_lazy(value)]
    if lazy:
        table.fail("model", f"{kind} has lazy layers that were not initialised: {lazy[0]}.",
                   "Run it once on a sample before you give it, or write the sizes of its layers.")
        return False
    values = [*model.named_parameters(), *model.named_buffers()]
    empty = [name for name, value in values if value.is_meta]
    if empty:
        table.fail("model", f"{empty[0]} of {kind} has no values (device meta).",
                   "Load the weights before you give the model.")
        return False
    bad = [name for name, value in values
           if value.is_floating_point() and not bool(torch.isfinite(value).all())]
    if bad:
        table.fail("model", f"The weights {bad[0]} of {kind} hold NaN or infinity.",
                   "Load weights of a training that did not diverge.")
        return False
    parameters = sum(p.numel() for p in model.parameters())
    how = "its baseline is trained by Task.baseline" if by_recipe else (
        "the baseline as it is given")
    table.ok("model", f"{kind}, {parameters:,} parameters, {how}")
    if not any(p.requires_grad for p in model.parameters()):
        table.fail("model", "No parameter of the model can be trained (requires_grad is False).",
                   "Call model.requires_grad_(True): candidates are trained after compression.")
    return True


@dataclass(frozen=True)
class Outputs:
    """The outputs of the model for one batch by name, and the one that the metric judges."""

    raw: object
    named: Mapping[str, Tensor]
    judged: str


def check_outputs(table: Table, task: Task, model: nn.Module, batch: SampleBatch) -> Outputs | None:
    """Rows of what the model returns in evaluation mode."""
    model.eval()
    try:
        with torch.no_grad():
            raw = model(*batch.inputs)
    except Exception as error:  # noqa: BLE001  the user's forward may raise anything
        table.fail("outputs", f"The model does not run on a batch of {_inputs(task, batch)}: "
                   f"{raised(error)}", _why_not_run(model, batch, str(error)))
        return None
    try:
        named = named_outputs(raw, task.outputs)
    except StrategyError as error:
        table.fail("outputs", f"{error} Found {described(raw)}.",
                   "Return a tensor, or a tuple or dictionary of tensors.")
        return None
    judged = task.output or next(iter(named))
    if judged not in named:
        table.fail("outputs", f"Task.output is {judged!r}, the model returns "
                   f"{', '.join(map(repr, named))}.", "Name one of them.")
        return None
    n = len(batch)
    for name, value in named.items():
        if value.ndim == 0 or len(value) != n:
            table.fail(f"output {name}", f"Found {described(value)} for a batch of {n} samples. "
                       "One row for each sample is expected.",
                       "Do not average over the batch, and keep its axis first.")
            return None
        table.ok(f"output {name}", f"{type_text(value)} {tuple(value.shape[1:])} per sample"
                 + (", judged by the metric" if name == judged and len(named) > 1 else ""))
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            table.fail(f"output {name}", "It holds NaN or infinity for finite inputs.",
                       "Correct the model or the scale of its inputs.")
    return Outputs(raw, named, judged)


def _inputs(task: Task, batch: SampleBatch) -> str:
    return ", ".join(f"{name}: {described(value)}"
                     for name, value in zip(task.input_names, batch.inputs, strict=True))


def _why_not_run(model: nn.Module, batch: SampleBatch, message: str) -> str:
    """What to do, from what the shapes and types say."""
    first = batch.inputs[0]
    weight = next((p for p in model.parameters()), None)
    if weight is not None and not first.is_floating_point() and "Embedding" not in "".join(
            type(m).__name__ for m in model.modules()):
        return f"Give inputs of type {type_text(weight)}: x.float(), scaled as in training."
    layer = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if layer is not None and first.ndim == 4 and first.shape[1] != layer.in_channels:
        if first.shape[3] == layer.in_channels:
            return ("The pictures have their channels last. Give (channels, height, width): "
                    "x.permute(2, 0, 1).")
        return (f"The first convolution takes {layer.in_channels} channels, the samples have "
                f"{first.shape[1]}. Convert the pictures (grey or RGB), or give a model for them.")
    if layer is not None and first.ndim == 3:
        return "A sample must be (channels, height, width): add the axis with x[None]."
    if "cuda" in message.lower():
        return "Keep the model and its buffers on the CPU; builders choose the device."
    return "Correct the shapes and types of the samples, or the model's forward."


def check_device(table: Table, task: Task) -> None:
    """A row where builders of this machine cannot train on the task's device."""
    if task.device == "cuda" and not torch.cuda.is_available():
        table.fail("device", "Task.device is 'cuda', and PyTorch finds no such device here.",
                   'Give device="auto", or install a PyTorch for this machine\'s GPU.')


def check_augmentation(table: Table, task: Task, batch: SampleBatch) -> SampleBatch | None:
    """The batch after ``Task.augment``; None, with a row, where it cannot be used."""
    if task.augment is None:
        return batch
    given = batch.inputs[0] if len(batch.inputs) == 1 else batch.inputs
    try:
        changed = task.augment(given, 0)
        again = task.augment(given, 0)
    except Exception as error:  # noqa: BLE001  the user's code may raise anything
        table.fail("augment", f"It raised {raised(error)} Given: {described(given)} and a seed.",
                   "Take the inputs of many samples and a whole number as seed.")
        return None
    inputs = changed if isinstance(changed, tuple) else (changed,)
    if [getattr(i, "shape", None) for i in inputs] != [i.shape for i in batch.inputs] or [
            i.dtype for i in inputs] != [i.dtype for i in batch.inputs]:
        table.fail("augment", f"It gives {described(changed)} for {described(given)}.",
                   "Give inputs of the same shape and type.")
        return None
    repeated = again if isinstance(again, tuple) else (again,)
    if not all(torch.equal(a, b) for a, b in zip(inputs, repeated, strict=True)):
        table.fail("augment", "It gives other inputs when it is called again with one seed.",
                   "Draw random numbers from torch.Generator().manual_seed(seed) only.")
        return None
    return SampleBatch(inputs, batch.targets, batch.start)


def check_step(table: Table, task: Task, model: nn.Module, batch: SampleBatch) -> float | None:
    """A row of one training step on a copy; its seconds, None where it fails."""
    copied = copy.deepcopy(model).train()
    times = []
    for _ in range(TIMED_STEPS):
        began_s = time.perf_counter()
        copied.zero_grad(set_to_none=True)
        try:
            outputs = copied(*batch.inputs)
        except Exception as error:  # noqa: BLE001  the user's forward may raise anything
            table.fail("training step", f"The model does not run in training mode on "
                       f"{len(batch)} samples: {raised(error)}",
                       "Correct the model's forward in training mode.")
            return None
        if not _loss_row(table, task, copied, outputs, batch):
            return None
        times.append(time.perf_counter() - began_s)
    table.ok("training step", f"the loss is finite and has gradients; {min(times):.3g} s for "
             f"{len(batch)} samples on one thread")
    return min(times)


def _loss_row(table: Table, task: Task, model: nn.Module, outputs: object,
              batch: SampleBatch) -> bool:
    """Whether loss and gradients are sound, with a row if not."""
    def where() -> str:
        return (f"outputs {described(outputs)}, targets {described(batch.targets)}")

    try:
        loss = task.loss(outputs, batch.targets)
    except Exception as error:  # noqa: BLE001  the user's loss may raise anything
        table.fail("loss", f"It raised {raised(error)} Given: {where()}.",
                   _why_no_loss(task, outputs, batch))
        return False
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        table.fail("loss", f"It gives {described(loss)}. One number is expected.",
                   "Return a scalar tensor, such as loss.mean().")
        return False
    if not bool(torch.isfinite(loss)):
        table.fail("loss", f"It is {float(loss.detach())} in the first step. Given: {where()}.",
                   "Look for log or division of 0 in the loss, and for the scale of the inputs.")
        return False
    if not loss.requires_grad:
        table.fail("loss", "It has no gradient: it does not depend on a parameter of the model.",
                   "Do not call detach(), item() or torch.no_grad() in model or loss.")
        return False
    try:
        torch.autograd.backward(loss)
    except Exception as error:  # noqa: BLE001  the user's own autograd functions
        table.fail("loss", f"Its gradient cannot be computed: {raised(error)}",
                   "Do not change tensors in place in model and loss.")
        return False
    bad = [name for name, p in model.named_parameters()
           if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
    if bad:
        table.fail("loss", f"The gradient of {bad[0]} holds NaN or infinity.",
                   "Look for roots or logarithms of 0 in model and loss.")
        return False
    return True


def _why_no_loss(task: Task, outputs: object, batch: SampleBatch) -> str:
    loss = getattr(task.loss, "__name__", type(task.loss).__name__)
    if not isinstance(outputs, Tensor):
        return (f"The loss gets what the model returns in training mode: take the tensor from it, "
                f"such as loss=lambda out, y: {loss}(out[...], y).")
    targets = tensors_of(batch.targets).get("")
    if targets is None:
        return f"The targets are a structure: take the tensor from it in the loss ({loss})."
    if "binary_cross_entropy" in loss or "BCE" in loss:
        return ("Give outputs and targets of one shape, and targets as floats: loss=lambda out, y: "
                "binary_cross_entropy_with_logits(out[:, 0], y.float()).")
    if targets.ndim == 2 and targets.shape[1] == 1:
        return "The targets have the shape (n, 1): give targets of shape (n,)."
    if outputs.ndim >= 2 and targets.is_floating_point() and targets.ndim == 1:
        return "For class numbers give the targets as whole numbers: y.long()."
    return "Give a loss that takes what the model returns and what the data give as targets."


def check_export(table: Table, task: Task, model: nn.Module, target: Target, batch: SampleBatch,
                 outputs: Mapping[str, Tensor]) -> int | None:
    """Rows of the exported file and of its outputs against the module's; its bytes, None where it
    cannot be exported."""
    try:
        graph = export_onnx(model, batch.inputs, target,
                            names=Names(task.input_names, task.outputs))
        content = finish(graph, target).content
    except StrategyError as error:
        table.fail("export", f"{error}", "Use operators that ONNX has at this opset, and no "
                   "Python control flow that depends on values.")
        return None
    table.ok("export", f"ONNX opset {target.opset}, {len(content):,} bytes")
    _parity(table, content, task, batch, outputs)
    return len(formats.named(target.format).from_onnx(content))


def _parity(table: Table, content: bytes, task: Task, batch: SampleBatch,
            outputs: Mapping[str, Tensor]) -> None:
    feeds = {name: value.detach().cpu().numpy()
             for name, value in zip(task.input_names, batch.inputs, strict=True)}
    try:
        loaded = session(content)
        names = [value.name for value in loaded.get_outputs()]
        found = dict(zip(names, loaded.run(names, feeds), strict=True))
    except Exception as error:  # noqa: BLE001  the runtime raises several kinds
        table.fail("parity", f"The exported file does not run on {len(batch)} samples: "
                   f"{raised(error)}", BATCH_ADVICE)
        return
    worst, largest = 0.0, 0.0
    for name, value in outputs.items():
        wanted = value[:len(batch)].detach().cpu().double().numpy()
        if found[name].shape != wanted.shape:
            table.fail("parity", f"The file gives {name} of shape {found[name].shape}, the module "
                       f"{wanted.shape}.", BATCH_ADVICE)
            return
        difference = np.abs(found[name].astype(np.float64) - wanted)
        worst = max(worst, float(difference.max(initial=0.0)))
        largest = max(largest, float(np.abs(wanted).max(initial=0.0)))
    said = (f"the file's outputs differ from the module's by at most {worst:.2g} (largest output "
            f"{largest:.3g}, {len(batch)} samples)")
    if not worst <= PARITY * max(largest, 1.0):
        table.fail("parity", said, BATCH_ADVICE)
    else:
        table.ok("parity", said)
