"""Repair of constrained weights without training: codes by GPTQ, masks by least squares.

One pass over calibration samples carries the dense and the constrained network side by side, as
the two halves of every batch. Each layer in the order of execution is solved on the inputs that
the constrained network gives it against the outputs of the dense one, then its bias takes up the
difference of the means. So no layer's error is left to the layers behind it. The first half is
GPTQ with asymmetric calibration (Frantar et al. 2023; Li et al. 2025, GPTAQ).
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from strategies.base import StrategyError
from strategies.encoding.export import baked
from strategies.repair.gptq import dampened, quantize, toward, weighted_error
from strategies.repair.layer_inputs import Geometry, Moments, hooked, moments, moments_of
from strategies.repair.masks import compensated, most_salient
from strategies.repair.tables import REFITS, fitted, nearest, refitted
from strategies.weights.clustering import Codebook
from strategies.weights.magnitude_pruning import MagnitudeMask

SAMPLES = 512
MEMORY_BYTES = 2 << 30
LIVE_TENSORS = 4
"""How many feature maps of the largest layer are alive at once, roughly."""
MOST_REFITTED = 16


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
    each input of the model. Call it once for all constraints of a model, for it repairs against
    the latent weights. The same arguments give the same bits. Training continues from there.

    Raises StrategyError(``no_calibration``) without samples.
    """
    if not calibration or len(calibration[0]) == 0:
        raise StrategyError("Repair needs at least one calibration sample.", "no_calibration")
    todo = {name: part for name, part in constraints(model).items()
            if layers is None or name in layers}
    if not todo:
        return
    twin = _dense(model, todo)
    samples = [tensor[:SAMPLES] for tensor in calibration]
    fitting, doubled = _look(twin, list(todo), samples, memory_bytes)
    plain = [name for name in todo if name not in doubled]
    solver = _Solver(todo)
    for name, seen in moments_of(twin, plain, samples).items():
        solver.solve_alone(name, twin.get_submodule(name), seen)
    with hooked(twin, list(doubled), solver.solve):
        twin(*(torch.cat([tensor[:fitting]] * 2) for tensor in samples))
    for name in todo:
        if name not in solver.solved:
            solver.solve_alone(name, twin.get_submodule(name), None)
        _settle(model.get_submodule(name), todo[name], solver.solved[name],
                twin.get_submodule(name))


class _Solver:
    """Constrains the layers of the dense twin one after the other while it runs."""

    def __init__(self, todo: dict[str, Constraint]) -> None:
        self.todo, self.solved = todo, dict[str, Solved]()
        self._dense: dict[str, tuple[Tensor, Tensor | None]] = {}

    def solve(self, name: str, module: nn.Module, inputs: Tensor, outputs: Tensor) -> Tensor:
        """A forward hook of ``layer_inputs.hooked``; halves of a batch are dense, constrained."""
        geometry, (dense_in, inputs_now) = Geometry.of(module), inputs.chunk(2)
        if name in self.solved:  # called a second time: its own past is gone for both halves
            return torch.cat([_with(module, *self._dense[name], dense_in), outputs.chunk(2)[1]])
        weight, bias = cast(Tensor, module.weight), cast(Tensor | None, module.bias)
        self._dense[name] = weight.clone(), None if bias is None else bias.clone()
        wanted, columns = geometry.columns(dense_in), geometry.columns(inputs_now)
        if bias is not None:  # the bias makes up for all means
            wanted, columns = (part - part.mean(1, keepdim=True) for part in (wanted, columns))
        second = columns.mT @ columns / columns.shape[1]
        cross = wanted.mT @ columns / columns.shape[1]
        target = toward(geometry.rows(weight), second, cross)
        self._keep(name, module, target, second)
        dense_out, now = outputs.chunk(2)[0], module.forward(inputs_now)
        if bias is not None:
            shift = geometry.channel_mean(dense_out) - geometry.channel_mean(now)
            bias += shift
            now = now + geometry.per_channel(shift)
        return torch.cat([dense_out, now])

    def solve_alone(self, name: str, module: nn.Module, seen: Moments | None) -> None:
        """By the dense network's inputs, where the halves of a batch cannot be told apart, or by
        none, where the layer is not called by itself."""
        geometry, weight = Geometry.of(module), cast(Tensor, module.weight)
        rows = geometry.rows(weight)
        if seen is None:
            eye = torch.eye(rows.shape[2]).expand(rows.shape[0], -1, -1)
            self._keep(name, module, rows, eye)
            return
        bias = cast(Tensor | None, module.bias)
        self._keep(name, module, rows, seen.second if bias is None else seen.covariance)
        if bias is not None:
            missing = rows - geometry.rows(cast(Tensor, module.weight))
            shift = (missing * seen.mean.unsqueeze(1)).sum(2)
            bias += shift.sum(0) if geometry.groups != len(rows) else shift.flatten()

    def _keep(self, name: str, module: nn.Module, rows: Tensor, second: Tensor) -> None:
        solved = solve(rows, second, Geometry.of(module), self.todo[name],
                       cast(Tensor, module.weight))
        self.solved[name] = solved
        cast(nn.Parameter, module.weight).data = solved.weight


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


def _look(twin: nn.Module, layers: Sequence[str], samples: Sequence[Tensor], memory_bytes: int
          ) -> tuple[int, set[str]]:
    """(samples that a doubled pass has memory for, layers whose inputs keep the halves apart)."""
    two = [tensor[:2] for tensor in samples]
    sizes, apart = [1], set()

    def seen(name: str, module: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
        sizes.append((inputs.nbytes + outputs.nbytes) // (2 * len(two[0])))
        if len(inputs) % 2 == 0 and torch.equal(*inputs.chunk(2)):
            apart.add(name)

    with hooked(twin, layers, seen):
        twin(*(torch.cat([tensor, tensor]) for tensor in two))
    fitting = memory_bytes // (2 * LIVE_TENSORS * max(sizes))
    return max(1, min(len(samples[0]), fitting)), apart


def _with(module: nn.Module, weight: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    """What ``module`` would give with ``weight`` and ``bias``."""
    other = copy.copy(module)
    other._parameters = {"weight": cast(nn.Parameter, weight), "bias": cast(nn.Parameter, bias)}
    return cast(Tensor, other.forward(inputs))


def _settle(module: nn.Module, constraint: Constraint, solved: Solved, twin: nn.Module) -> None:
    _original(module).data = solved.weight.clone()
    if module.bias is not None:
        cast(Tensor, module.bias).data = cast(Tensor, twin.bias).clone()
    if constraint.mask is not None and solved.kept is not None:
        constraint.mask.settle(solved.kept)
    if constraint.codebook is not None and solved.table is not None:
        assert solved.scale is not None
        constraint.codebook.settle(solved.table, solved.scale)
