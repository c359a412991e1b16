"""Accuracy of a changed structure without training: every layer is solved by least squares.

He et al. 2017, Channel Pruning for Accelerating Very Deep Neural Networks, section 3.1: the inputs
are those that the smaller network really computes, the outputs those that the network before gave
for the channels that are kept, so that a layer makes up for the errors of those before it.
"""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from strategies.dataflow import DataFlow, evaluating, follow
from strategies.layers import executed, weighted
from strategies.repair.lockstep import Lockstep

SOLVABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
BATCH = 64
MEMORY_BYTES = 1 << 30
"""What activations of the student and outputs of the teacher may take together, about."""
ROWS_PER_COLUMN, FEWEST_ROWS = 24, 6144
"""Positions of feature maps that are looked at, for each input of an output, and at least."""
RIDGE = 3e-3
"""Pull towards the present weights, relative to the mean square of the inputs."""
NO_ERROR = 1e-9
"""A layer whose outputs are off by less than this share of their variance stays as it is."""


@dataclass(frozen=True)
class Target:
    """A layer of the student, the layer of the teacher whose outputs it is to give, which of them,
    and how many batches take part."""

    layer: str
    teacher: str
    outputs: tuple[int, ...]
    batches: int


def repair_structure(student: nn.Module, teacher: nn.Module,
                     kept: Mapping[str, Sequence[int]], calibration: Sequence[Tensor],
                     memory_bytes: int = MEMORY_BYTES) -> nn.Module:
    """A copy of ``student`` whose convolutions and linear layers give, one after the other in
    order of execution, what those of ``teacher`` give for ``calibration`` (one tensor (n, ...) of
    inputs, 512 are enough, for each input of the models; no labels).

    ``student`` came from ``teacher`` by structure steps: a layer has the name it had, or the parts
    that stand in its place have names below it. ``kept`` tells which outputs of ``teacher`` layers
    still have (``strategies.base.Restructured.kept``); layers that are absent have all. Left as
    they are: transposed convolutions, layers that are called several times or whose weights others
    read, parts that have no counterpart. The same inputs give the same weights.
    Raises StrategyError(``unsupported_graph``) when a model cannot be run.
    """
    repaired = copy.deepcopy(student)
    example = tuple(tensor[:1] for tensor in calibration)
    flow = follow(repaired, example)
    size, most = _in_memory(flow, len(calibration[0]), memory_bytes // 2)
    batches = list(zip(*(tensor.split(size) for tensor in calibration), strict=True))
    targets = [Target(layer, source, outputs, max(1, min(most[layer] // size, len(batches))))
               for layer, source, outputs in _pairs(repaired, flow, teacher, example, kept)]
    with Lockstep(repaired, [target.layer for target in targets], batches) as runs:
        for part in _segments(repaired, targets, memory_bytes // 2):
            wanted = _outputs_of(teacher, repaired, part, batches)
            for target in part:
                moments: _Moments | None = None
                for index in range(target.batches):
                    inputs = runs.inputs_of(target.layer, index)
                    given = wanted.pop((target.layer, index), None)
                    if inputs is not None and given is not None:
                        layer = repaired.get_submodule(target.layer)
                        moments = _added(moments, _columns(layer, inputs, given[0]), given[1])
                if moments is not None:
                    _solve(cast(Any, repaired.get_submodule(target.layer)), moments)
    return repaired


def _in_memory(flow: DataFlow, samples: int, limit: int) -> tuple[int, dict[str, int]]:
    """The size of a batch, and how many samples may wait at each layer and all later ones."""
    alive = flow.alive()
    later = list(itertools.accumulate(reversed(alive), max))[::-1]
    size = max(1, min(BATCH, samples, limit // max(4 * max(alive, default=1), 1)))
    most = {name: limit // max(later[calls[0].first], 1) for name, calls in flow.calls.items()
            if calls[0].first < len(later)}
    return size, most


def _pairs(student: nn.Module, flow: DataFlow, teacher: nn.Module, example: tuple[Tensor, ...],
           kept: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(layer of the student, that of the teacher, which of its outputs), in order of execution."""
    calls = follow(teacher, example).calls
    sources = [name for name in weighted(teacher) if len(calls.get(name, ())) == 1]
    ordered = executed(student, flow, weighted(student))
    last = {_source(layer, sources): layer for layer in ordered}
    for layer in ordered:
        source, module = _source(layer, sources), student.get_submodule(layer)
        if (source is None or last[source] != layer or not isinstance(module, SOLVABLE)
                or flow.untouchable(student, layer) or len(flow.calls[layer]) != 1):
            continue
        outputs = tuple(kept.get(layer) or range(_width(teacher.get_submodule(source))))
        if len(outputs) == _width(module):
            yield layer, source, outputs


def _source(layer: str, sources: Sequence[str]) -> str | None:
    """The layer of the teacher in whose place ``layer`` stands, alone or as one of several."""
    while layer:
        if layer in sources:
            return layer
        layer = layer.rpartition(".")[0]
    return None


def _width(module: nn.Module) -> int:
    return cast(int, module.out_features if isinstance(module, nn.Linear)
                else module.out_channels)


def _inputs_of_one(module: Any) -> int:
    return cast(int, module.weight[0].numel())


def _rows(module: nn.Module) -> int:
    return max(ROWS_PER_COLUMN * _inputs_of_one(module), FEWEST_ROWS)


def _segments(student: nn.Module, targets: Sequence[Target], limit: int
              ) -> Iterator[list[Target]]:
    """Targets whose outputs of the teacher fit into ``limit`` bytes, in order."""
    part: list[Target] = []
    used = 0
    for target in targets:
        size = _rows(student.get_submodule(target.layer)) * (4 * len(target.outputs) + 8)
        if part and used + size > limit:
            yield part
            part, used = [], 0
        part.append(target)
        used += size
    if part:
        yield part


def _outputs_of(teacher: nn.Module, student: nn.Module, targets: Sequence[Target],
                batches: Sequence[tuple[Tensor, ...]]) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
    """(positions, outputs (positions, channels)) of each target and batch."""
    found: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
    current = 0

    def noting(place: int, target: Target) -> Any:
        rows = -(-_rows(student.get_submodule(target.layer)) // target.batches)

        def note(module: nn.Module, inputs: Any, outputs: Tensor) -> None:
            if current < target.batches:
                flat = _channels_last(module, outputs)
                seed = torch.Generator().manual_seed(100_003 * place + current)
                some = torch.randperm(len(flat), generator=seed)[:rows].sort().values
                chosen = flat[some][:, list(target.outputs)]
                found[target.layer, current] = some, chosen
        return note

    hooks = [teacher.get_submodule(target.teacher).register_forward_hook(noting(place, target))
             for place, target in enumerate(targets)]
    try:
        with evaluating(teacher):
            for current in range(max(target.batches for target in targets)):
                teacher(*batches[current])
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _channels_last(module: nn.Module, outputs: Tensor) -> Tensor:
    """(positions, channels)."""
    if isinstance(module, nn.Linear):
        return outputs.reshape(-1, outputs.shape[-1])
    if outputs.dim() == len(cast(nn.Conv2d, module).kernel_size) + 1:
        outputs = outputs.unsqueeze(0)
    return outputs.movedim(1, -1).reshape(-1, outputs.shape[1])


def _columns(module: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor | None:
    """The inputs of the outputs at ``positions``: (groups, positions, inputs of one output), in
    the order of the weight. None when there are no such positions."""
    if isinstance(module, nn.Linear):
        rows = inputs.reshape(-1, inputs.shape[-1])
        return rows[positions].unsqueeze(0) if len(positions) <= len(rows) else None
    convolution = cast(nn.Conv2d, module)
    dimensions = len(convolution.kernel_size)
    windows = inputs.unsqueeze(0) if inputs.dim() == dimensions + 1 else inputs
    padding = cast(Any, convolution)._reversed_padding_repeated_twice
    if any(padding):
        mode = "constant" if convolution.padding_mode == "zeros" else convolution.padding_mode
        windows = nn.functional.pad(windows, padding, mode=mode)
    for axis in range(dimensions):
        dilation = convolution.dilation[axis]
        reach = (convolution.kernel_size[axis] - 1) * dilation + 1
        windows = windows.unfold(2 + axis, reach, convolution.stride[axis])[..., ::dilation]
    windows = windows.movedim(1, 1 + dimensions)  # (n, *places, channels, *kernel)
    places = windows.shape[: 1 + dimensions]
    if len(positions) and int(positions[-1]) >= torch.Size(places).numel():
        return None
    chosen = windows[torch.unravel_index(positions, places)]
    return chosen.reshape(len(positions), convolution.groups, -1).transpose(0, 1)


@dataclass(frozen=True)
class _Moments:
    """Sums over positions: their number, inputs x (groups, columns), outputs y (groups, filters),
    x x^T, x y^T and y y (groups, filters)."""

    count: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor


def _added(moments: _Moments | None, columns: Tensor | None, outputs: Tensor) -> _Moments | None:
    if columns is None:
        return moments
    groups = len(columns)
    wanted = outputs.reshape(len(outputs), groups, -1).transpose(0, 1)
    turned = columns.transpose(1, 2)
    new = _Moments(columns.shape[1], columns.sum(1).double(), wanted.sum(1).double(),
                   (turned @ columns).double(), (turned @ wanted).double(),
                   wanted.square().sum(1).double())
    if moments is None:
        return new
    return _Moments(moments.count + new.count, moments.x + new.x, moments.y + new.y,
                    moments.xx + new.xx, moments.xy + new.xy, moments.yy + new.yy)


def _solve(layer: Any, moments: _Moments) -> None:
    """Put the solution into ``layer``: with a bias on centred inputs and outputs, in float64."""
    weight = cast(Tensor, layer.weight)
    groups = len(moments.x)
    present = weight.detach().double().reshape(groups, len(weight) // groups, -1).mT
    x, y = moments.x / moments.count, moments.y / moments.count
    xx, xy, yy = (m / moments.count for m in (moments.xx, moments.xy, moments.yy))
    if layer.bias is not None:
        xx, xy = xx - x[:, :, None] * x[:, None], xy - x[:, :, None] * y[:, None]
        yy = yy - y.square()
    missing = xy - xx @ present
    error = yy.sum() - 2 * (present * xy).sum() + (present * (xx @ present)).sum()
    offset = 0.0
    if layer.bias is not None:
        offset = float((y - (x[:, None] @ present)[:, 0]
                        - layer.bias.double().view(groups, -1)).square().sum())
    if float(error) + offset <= NO_ERROR * float(yy.sum()):
        return
    diagonal = xx.diagonal(dim1=1, dim2=2)
    pull = RIDGE * diagonal.mean(1, keepdim=True) + 1e-12 * diagonal.amax() + 1e-30
    solved = present + torch.linalg.solve(xx + torch.diag_embed(pull.expand_as(diagonal)), missing)
    with torch.no_grad():
        weight.copy_(solved.mT.reshape_as(weight))
        if layer.bias is not None:
            layer.bias.copy_((y - (x[:, None] @ solved)[:, 0]).flatten())
