"""Repair of constrained weights without training: codes by GPTQ, masks by least squares.

The dense and the constrained network run side by side. Each layer in the order of execution is
solved on the inputs that the constrained network gives it against the outputs of the dense one,
then its bias makes up for the difference of the means; so a layer makes up for the errors of those
before it. Frantar et al. 2023, GPTQ; Li et al. 2025, GPTAQ: Efficient Finetuning-Free Quantization
for Asymmetric Calibration.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from strategies.base import StrategyError
from strategies.dataflow import follow
from strategies.encoding.export import baked
from strategies.layers import executed
from strategies.repair.gptq import dampened, quantize, toward, weighted_error
from strategies.repair.layer_inputs import MOST_POSITIONS, Geometry
from strategies.repair.lockstep import Lockstep, in_memory
from strategies.repair.masks import compensated, most_salient
from strategies.repair.tables import REFITS, fitted, nearest, refitted
from strategies.weights.clustering import Codebook
from strategies.weights.magnitude_pruning import MagnitudeMask

SAMPLES = 512
MEMORY_BYTES = 1 << 30
MOST_REFITTED = 16
"""Values of the largest table that is fitted again: the cost grows with their square."""


@dataclass(frozen=True)
class Constraint:
    """What the parametrizations of one layer demand of its weight."""

    mask: MagnitudeMask | None
    codebook: Codebook | None


@dataclass(frozen=True)
class Solved:
    """A weight that meets its constraint; ``table`` and ``scale`` (one per filter) where it is
    coded, ``kept`` where it is masked."""

    weight: Tensor
    kept: Tensor | None
    table: Tensor | None
    scale: Tensor | None


def constraints(model: nn.Module) -> dict[str, Constraint]:
    """By module path, of every layer with a mask or a codebook, in order of registration."""
    found = {}
    for name, module in model.named_modules():
        if not parametrize.is_parametrized(module, "weight"):
            continue
        parts = list(_chain(module))
        mask = next((part for part in parts if isinstance(part, MagnitudeMask)), None)
        codebook = next((part for part in parts if isinstance(part, Codebook)), None)
        if mask is not None or codebook is not None:
            found[name] = Constraint(mask, codebook)
    return found


@torch.no_grad()
def repair_weights(model: nn.Module, calibration: Sequence[Tensor],
                   layers: Sequence[str] | None = None, memory_bytes: int = MEMORY_BYTES) -> None:
    """In place: give every masked or coded layer of ``model`` (those of ``layers``, by default all)
    the weights, table, mask and bias that lose least on ``calibration``, one tensor (n, ...) for
    each input of the model. Call it once for all constraints of a model, for it starts from the
    latent weights; training continues from its result. The same arguments give the same bits.

    Raises StrategyError(``no_calibration``) without samples.
    """
    if not calibration or len(calibration[0]) == 0:
        raise StrategyError("Repair needs at least one calibration sample.", "no_calibration")
    todo = {name: part for name, part in constraints(model).items()
            if layers is None or name in layers}
    samples = [tensor[:SAMPLES] for tensor in calibration]
    dense, student = _dense(model, todo), _dense(model, todo)
    flow = follow(student, [tensor[:1] for tensor in samples])
    called = [name for name in executed(student, flow, list(todo)) if flow.calls.get(name)]
    size, most = in_memory(flow, len(samples[0]), memory_bytes // 3)
    batches = list(zip(*(torch.split(tensor, size) for tensor in samples), strict=True))
    with Lockstep(dense, called, batches) as before, Lockstep(student, called, batches) as now:
        for name in called:
            count = max(1, min(most[name] // size, len(batches)))
            pairs = [_pair(name, student.get_submodule(name), before, now, index,
                           MOST_POSITIONS // count) for index in range(count)]
            wanted, columns = (torch.cat(part, 1) for part in zip(*pairs, strict=True))
            solved = _solved_toward(student.get_submodule(name), todo[name], wanted, columns)
            _settle(model.get_submodule(name), todo[name], solved, student.get_submodule(name))
    for name in todo:
        if name not in called:
            module = student.get_submodule(name)
            rows = Geometry.of(module).rows(cast(Tensor, module.weight))
            alike = torch.eye(rows.shape[2]).expand(rows.shape[0], -1, -1)
            _settle(model.get_submodule(name), todo[name],
                    solve(rows, alike, Geometry.of(module), todo[name],
                          cast(Tensor, module.weight)), module)


def _pair(name: str, module: nn.Module, before: Lockstep, now: Lockstep, batch: int, most: int
          ) -> tuple[Tensor, Tensor]:
    """The columns that the layer reads in the dense and in the constrained network."""
    geometry = Geometry.of(module)
    inputs = before.inputs_of(name, batch), now.inputs_of(name, batch)
    assert inputs[0] is not None and inputs[1] is not None, "the layer was seen to be called"
    return geometry.columns(inputs[0], most), geometry.columns(inputs[1], most)


def _solved_toward(module: nn.Module, constraint: Constraint, wanted: Tensor, columns: Tensor
                   ) -> Solved:
    """The weight of ``module`` under ``constraint``, put in its place together with the bias, so
    that on ``columns`` it gives what the dense weight gives on ``wanted``."""
    geometry, dense = Geometry.of(module), cast(Tensor, module.weight).clone()
    bias = cast(Tensor | None, module.bias)
    means = wanted.mean(1), columns.mean(1)
    if bias is not None and not geometry.transposed:  # the bias makes up for the means
        wanted, columns = wanted - means[0].unsqueeze(1), columns - means[1].unsqueeze(1)
    second = columns.mT @ columns / columns.shape[1]
    cross = wanted.mT @ columns / columns.shape[1]
    target = toward(geometry.rows(dense), second, cross)
    solved = solve(target, second, geometry, constraint, dense)
    cast(nn.Parameter, module.weight).data = solved.weight.clone()
    if bias is not None and not geometry.transposed:
        bias += geometry.per_output(geometry.rows(dense) * means[0].unsqueeze(1)
                                    - geometry.rows(solved.weight) * means[1].unsqueeze(1))
    return solved


def solve(rows: Tensor, second: Tensor, geometry: Geometry, constraint: Constraint,
          like: Tensor) -> Solved:
    """``rows`` (groups, filters, columns) under ``constraint`` at the least error by the second
    moments of their inputs; ``like`` has the shape of the weight."""
    hessian, kept = dampened(second), None
    if constraint.mask is not None:
        count = constraint.mask.count(rows.numel())
        kept = most_salient(rows, hessian, count)
        rows = compensated(rows, hessian, kept)
    mask = None if kept is None else geometry.weight(kept, like)
    if constraint.codebook is None:
        return Solved(geometry.weight(rows, like), mask, None, None)
    codebook = constraint.codebook
    scale = codebook.scale_of(geometry.weight(rows, like))
    unit = geometry.rows(scale.expand_as(like))[..., :1]
    table, chosen = _coded(rows, hessian, unit, kept, codebook)
    return Solved(geometry.weight(chosen * unit, like), mask, table, scale)


def _coded(rows: Tensor, hessian: Tensor, unit: Tensor, kept: Tensor | None, codebook: Codebook
           ) -> tuple[Tensor, Tensor]:
    """(table, value of each weight in units): the best of a few fits."""
    count = codebook.values if kept is None else codebook.values - 1
    present = torch.ones_like(rows, dtype=torch.bool) if kept is None else kept
    importance = hessian.diagonal(dim1=-2, dim2=-1).unsqueeze(1) * unit.square()
    table = codebook.allowed(fitted(
        (rows / unit)[present], importance.expand_as(rows)[present], count))
    best: tuple[float, Tensor, Tensor] | None = None
    for refit in range(REFITS + 1):
        def rounding(weight: Tensor, at: Tensor, table: Tensor = table) -> Tensor:
            value = nearest(table, weight / unit) * unit
            if kept is None:
                return value
            return value * kept.gather(2, at.unsqueeze(1).expand_as(weight))

        values = quantize(rows, hessian, rounding)
        chosen = nearest(table, values / unit) * present
        error = float(weighted_error(rows - values, hessian).sum(dtype=torch.float64))
        if best is None or error < best[0]:
            best = error, table, chosen
        if refit == REFITS or count > MOST_REFITTED:
            break
        table = codebook.allowed(refitted(
            table, torch.where(present, chosen, torch.nan), rows, hessian, unit))
    assert best is not None
    return best[1], best[2]


def _chain(module: nn.Module) -> Iterator[nn.Module]:
    yield from cast(nn.ModuleList, cast(nn.ModuleDict, module.parametrizations)["weight"])


def _original(module: nn.Module) -> Tensor:
    return cast(Tensor, cast(nn.ModuleDict, module.parametrizations)["weight"].original)


def _dense(model: nn.Module, todo: dict[str, Constraint]) -> nn.Module:
    """A copy in evaluation mode with the latent weights of the layers in ``todo``."""
    twin = baked(model)
    for name in todo:
        latent = _original(model.get_submodule(name)).detach().clone()
        cast(nn.Parameter, twin.get_submodule(name).weight).data = latent
    return twin


def _settle(module: nn.Module, constraint: Constraint, solved: Solved, student: nn.Module) -> None:
    _original(module).data = solved.weight.clone()
    if module.bias is not None:
        cast(Tensor, module.bias).data = cast(Tensor, student.bias).clone()
    if constraint.mask is not None and solved.kept is not None:
        constraint.mask.settle(solved.kept)
    if constraint.codebook is not None and solved.table is not None:
        assert solved.scale is not None
        constraint.codebook.settle(solved.table, solved.scale)
