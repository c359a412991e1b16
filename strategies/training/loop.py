"""The one training loop: one-cycle schedules, parametrizations advanced each step, resumable.

    learning rate:  warm-up to the peak, then a cosine to zero, within each fidelity
    fidelity short: |0 .. peak ........ 0|                progress 0 -> 1
    full, extended, each:                |0 .. peak/2 ..... 0|   progress stays 1
"""

import copy
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from strategies.base import Batch, Fidelity, StrategyError, TrainingData, TrainingState
from strategies.training.precision import Precision
from strategies.weights.parametrizing import advance, parametrizations

WEIGHT_DECAY = 1e-2
WARM_UP = 0.25
RESTART = 0.5
"""Peak of a warm restart relative to the first peak (Loshchilov and Hutter 2017)."""

LossOf = Callable[[Batch, Any], Tensor]
"""The loss of a batch from what the model returns for it."""


def train_to(model: nn.Module, data: TrainingData, fidelity: Fidelity,
             state: TrainingState | None, learning_rate: float,
             loss_of: LossOf) -> tuple[nn.Module, TrainingState]:
    """Train ``model`` until ``fidelity.epochs``; the same from the same ``state``, bit for bit.

    Raises StrategyError(``nan_loss``) at the end of an epoch whose loss was not finite.
    """
    done = int(state["epoch"]) if state else 0
    optimizer = _optimizer(model, learning_rate)
    if state:
        optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        torch.set_rng_state(state["rng"])
    peak = learning_rate * (RESTART if state else 1.0)
    _cycle(model, data, range(done, fidelity.epochs), optimizer, peak, loss_of, fresh=not state)
    return model, {"epoch": max(done, fidelity.epochs), "optimizer": optimizer.state_dict(),
                   "rng": torch.get_rng_state()}


def fit_until_plateau(model: nn.Module, data: TrainingData, *, learning_rate: float,
                      cycle_epochs: int, max_epochs: int, tolerance: float
                      ) -> tuple[nn.Module, TrainingState]:
    """Cycles with warm restarts, the first of ``cycle_epochs``, the others a third as long, and
    the average of the weights at their ends (Izmailov et al. 2018, Averaging Weights Leads to
    Wider Optima), until its validation metric has not risen by more than ``tolerance`` over one.
    Should it have fallen by more, the average before counts.
    """
    optimizer = _optimizer(model, learning_rate)

    def loss_of(batch: Batch, outputs: Any) -> Tensor:
        return data.loss(outputs, batch.targets)

    average, best, kept, epoch = AveragedModel(model, use_buffers=True), -math.inf, model, 0
    while epoch < max_epochs:
        end = min(epoch + (max(cycle_epochs // 3, 1) if epoch else cycle_epochs), max_epochs)
        peak = learning_rate * (RESTART if epoch else 1.0)
        _cycle(model, data, range(epoch, end), optimizer, peak, loss_of, fresh=False)
        average.update_parameters(model)
        measure_normalization(average.module, data.batches(epoch))
        epoch, metric = end, data.validation_metric(average.module)
        if metric >= best - tolerance:
            kept = copy.deepcopy(average.module)
        if metric <= best + tolerance:
            break
        best = metric
    return kept.eval(), {"epoch": epoch, "optimizer": optimizer.state_dict(),
                         "rng": torch.get_rng_state()}


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate at ``progress`` 0..1 (Smith and Topin 2018)."""
    if progress < WARM_UP:
        return 0.04 + 0.96 * progress / WARM_UP
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


class _AdamW(torch.optim.AdamW):
    """The methods without their wrappers for torch's compiler, which import all of it with their
    first call: seconds in every process that trains."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def _optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    return _AdamW(trained, learning_rate, weight_decay=WEIGHT_DECAY, fused=True)


def _cycle(model: nn.Module, data: TrainingData, epochs: range, optimizer: torch.optim.Optimizer,
           peak: float, loss_of: LossOf, fresh: bool) -> None:
    # Channels last: convolutions of a few channels train a quarter to a third faster on CPUs.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    constrained = any(True for _ in parametrizations(model))
    precision = Precision.of(model)
    scaler = precision.scaler()
    steps = max(len(epochs) * data.batches_per_epoch, 1)
    step = 0
    for epoch in epochs:
        total = torch.zeros((), device=precision.device)
        for batch in data.batches(epoch):
            for group in optimizer.param_groups:
                group["lr"] = peak * one_cycle(step / steps)
            if constrained:
                advance(model, step / steps if fresh else 1.0)
            optimizer.zero_grad(set_to_none=True)
            with precision.forward():
                loss = loss_of(batch, model(*map(_channels_last, batch.inputs)))
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            total += loss.detach()
            step += 1
        if not math.isfinite(float(total)):
            raise StrategyError(f"The loss is {float(total)} in epoch {epoch + 1}: training "
                                "diverged, try a lower learning_rate; or inputs or targets are not "
                                "finite, check them.", "nan_loss")
    if constrained:
        advance(model, 1.0)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.eval()


@torch.no_grad()
def measure_normalization(model: nn.Module, batches: Iterable[Batch]) -> None:
    """The statistics of every batch normalization, averaged over ``batches``: those of averaged
    weights are not the average of statistics (Izmailov et al. 2018, section 3.2)."""
    norms = [module for module in model.modules()
             if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    training = model.training
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for batch in batches:
        model(*batch.inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)


def _channels_last(inputs: Tensor) -> Tensor:
    return inputs.to(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs
