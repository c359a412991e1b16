"""Accuracy of a changed structure without training: every layer is solved by least squares.

He et al. 2017, Channel Pruning for Accelerating Very Deep Neural Networks, section 3.1: the inputs
are those that the smaller network really computes, the outputs those that the network before gave
for the channels that are kept, so that a layer makes up for the errors of those before it.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from strategies.base import Restructured
from strategies.dataflow import DataFlow, evaluating, follow
from strategies.layers import executed, weighted
from strategies.repair.lockstep import Lockstep, in_memory

SOLVABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
MEMORY_BYTES = 1 << 30
"""What activations of the student and outputs of the teacher may take together, about."""
PER_COLUMN, FEWEST_PER_COLUMN, FEWEST = 24, 2, 6144
"""Positions of feature maps that are looked at, for each input of an output, and at least."""
MOST_OPERATIONS = 10**11
"""Of one layer: products of inputs that are summed."""
RECTIFIED_STEPS = 4
RIDGE = 0.3
"""Pull towards the present weights, relative to the mean square of the inputs. Less of it fits the
calibration samples better and is a worse start of training: a residual network with .4 of its
channels lost 8.65 % with .003 and 2.75 % after two epochs, 11.45 % and 1.2 % with .3; with .65 of
its channels 2.65 % and .4 %, 2.4 % and .1 %."""
NO_ERROR = 1e-9
"""A layer whose outputs are off by less than this share of their variance stays as it is."""


@dataclass(frozen=True)
class _Goal:
    """A layer of the student, the layer of the teacher whose outputs it is to give, which of them,
    whether only ReLU reads them, how many batches take part and how many positions in all."""

    layer: str
    teacher: str
    outputs: tuple[int, ...]
    rectified: bool
    batches: int
    positions: int


def repair_structure(student: nn.Module, teacher: nn.Module,
                     kept: Mapping[str, Sequence[int]], calibration: Sequence[Tensor],
                     memory_bytes: int = MEMORY_BYTES, most_layers: int | None = None
                     ) -> nn.Module:
    """A copy of ``student`` whose convolutions and linear layers give, one after the other in
    order of execution, what those of ``teacher`` give for ``calibration`` (one tensor (n, ...) of
    inputs, 512 are enough, for each input of the models; no labels).

    ``student`` came from ``teacher`` by structure steps: a layer has the name it had, or the parts
    that stand in its place have names below it. ``kept`` tells which outputs of ``teacher`` layers
    still have (``strategies.base.Restructured.kept``); layers that are absent have all. Left as
    they are: transposed convolutions, layers that are called several times or whose weights others
    read, parts that have no counterpart. The same inputs give the same weights.
    With ``most_layers`` only so many layers are solved, from the first one that changed.
    Raises StrategyError(``unsupported_graph``) when a model cannot be run.
    """
    repaired = copy.deepcopy(student)
    example = tuple(tensor[:1] for tensor in calibration)
    flow = follow(repaired, example)
    size, most = in_memory(flow, len(calibration[0]), memory_bytes // 2)
    batches = list(zip(*(torch.split(tensor, size) for tensor in calibration), strict=True))
    goals = [_Goal(layer, source, outputs, _rectified(flow, repaired, layer),
                      max(1, min(most[layer] // size, len(batches))),
                      _positions(repaired.get_submodule(layer)))
               for layer, source, outputs in _pairs(repaired, flow, teacher, example, kept)]
    if most_layers is not None:
        first = next((place for place, goal in enumerate(goals)
                      if goal.layer in kept or goal.layer != goal.teacher), 0)
        goals = goals[first : first + most_layers]
    with Lockstep(repaired, [goal.layer for goal in goals], batches) as runs:
        for part in _segments(goals, memory_bytes // 4):
            wanted = _outputs_of(teacher, part, batches)
            for goal in part:
                layer = repaired.get_submodule(goal.layer)
                columns, outputs = [], []
                for index in range(goal.batches):
                    inputs = runs.inputs_of(goal.layer, index)
                    positions, given = wanted.pop((goal.layer, index), (None, None))
                    if inputs is None or positions is None or given is None:
                        continue
                    found = _columns(layer, inputs, positions)
                    if found is not None:
                        columns.append(found)
                        outputs.append(given)
                if columns:
                    _solve(layer, torch.cat(columns, 1), torch.cat(outputs), goal.rectified)
    return repaired


def composed(before: Mapping[str, Sequence[int]], found: Restructured
             ) -> dict[str, tuple[int, ...]]:
    """What ``repair_structure`` takes as ``kept`` after another structure step: ``before`` is
    that of the steps before, by the paths before, ``found`` what the step made."""
    names = weighted(found.model)
    kept = dict(found.kept)
    for name, had in before.items():
        now = ([name] if name in names else
               [part for part in names if part.startswith(f"{name}.")])[-1:]
        for last in now:
            own = found.kept.get(last)
            kept[last] = tuple(had) if own is None else tuple(had[index] for index in own)
    return kept


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


def _positions(module: Any) -> int:
    """How many positions determine the weights of ``module`` well, within ``MOST_OPERATIONS``."""
    columns = cast(int, module.weight[0].numel())
    affordable = max(MOST_OPERATIONS // columns**2, FEWEST_PER_COLUMN * columns)
    return min(max(PER_COLUMN * columns, FEWEST), affordable)


def _rectified(flow: DataFlow, model: nn.Module, layer: str) -> bool:
    """Whether nothing reads the outputs of ``layer`` but ReLU, which may write into them."""
    (call,) = flow.calls[layer]
    if call.output_storages & flow.outputs:
        return False
    found = False
    for operator in flow.operators[call.end:]:
        if not call.output_storages & (operator.reads | operator.writes):
            continue
        relu = operator.name in ("relu", "clamp_min") or isinstance(
            model.get_submodule(operator.module), nn.ReLU6)
        if not relu:
            return False
        found = True
        if operator.writes & call.output_storages:
            return True
    return found


def _segments(goals: Sequence[_Goal], limit: int) -> Iterator[list[_Goal]]:
    """Targets whose outputs of the teacher fit into ``limit`` bytes, in order."""
    part: list[_Goal] = []
    used = 0
    for goal in goals:
        size = goal.positions * (4 * len(goal.outputs) + 8)
        if part and used + size > limit:
            yield part
            part, used = [], 0
        part.append(goal)
        used += size
    if part:
        yield part


def _outputs_of(teacher: nn.Module, goals: Sequence[_Goal],
                batches: Sequence[tuple[Tensor, ...]]
                ) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
    """(positions, outputs (positions, channels)) of each goal and batch."""
    found: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
    current = 0

    def noting(place: int, goal: _Goal) -> Any:
        rows = -(-goal.positions // goal.batches)

        def note(module: nn.Module, inputs: Any, outputs: Tensor) -> None:
            if current < goal.batches:
                flat = _channels_last(module, outputs)
                seed = torch.Generator().manual_seed(100_003 * place + current)
                some = torch.randperm(len(flat), generator=seed)[:rows].sort().values
                chosen = flat[some][:, list(goal.outputs)]
                found[goal.layer, current] = some, chosen
        return note

    hooks = [teacher.get_submodule(goal.teacher).register_forward_hook(noting(place, goal))
             for place, goal in enumerate(goals)]
    try:
        with evaluating(teacher):
            for current in range(max(goal.batches for goal in goals)):
                teacher(*(tensor.clone() for tensor in batches[current]))
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


def _solve(layer: Any, inputs: Tensor, outputs: Tensor, rectified: bool) -> None:
    """Put the solution of ``inputs`` (groups, positions, columns) to ``outputs`` (positions,
    channels) into ``layer``: with a bias on centred ones, in float64.

    Of rectified outputs the negative ones need not be met, only be negative, too: what the
    solution gives there is taken for the wanted value and solved again, a few times (Zhang et al.
    2015, Accelerating Very Deep Convolutional Networks, section 3.2, without its penalty).
    """
    weight, groups = cast(Tensor, layer.weight), len(inputs)
    wanted = outputs.reshape(len(outputs), groups, -1).transpose(0, 1)
    present = weight.detach().reshape(groups, len(weight) // groups, -1).mT
    shift = (torch.zeros(groups, 1, wanted.shape[2]) if layer.bias is None
             else layer.bias.detach().view(groups, 1, -1))
    error = (inputs @ present + shift - wanted).square().sum()
    if float(error) <= NO_ERROR * float((wanted - wanted.mean(1, keepdim=True)).square().sum()):
        return
    centre = inputs.mean(1, keepdim=True)
    centred = inputs if layer.bias is None else inputs - centre
    xx = (centred.mT @ centred).double() / inputs.shape[1]
    diagonal = xx.diagonal(dim1=1, dim2=2)
    pull = RIDGE * diagonal.mean(1, keepdim=True) + 1e-9 * diagonal.amax() + 1e-30
    factor = torch.linalg.cholesky(xx + torch.diag_embed(pull.expand_as(diagonal)))
    solved, aim = present, wanted
    for step in range(RECTIFIED_STEPS if rectified else 1):
        if step:
            given = inputs @ solved + shift
            aim = torch.where(wanted < 0, given.clamp(max=0), wanted)
        xy = (centred.mT @ aim).double() / inputs.shape[1]
        missing = xy - xx @ present.double()
        solved = present + torch.cholesky_solve(missing, factor).to(present)
        if layer.bias is not None:
            shift = aim.mean(1, keepdim=True) - centre @ solved
    with torch.no_grad():
        weight.copy_(solved.mT.reshape_as(weight))
        if layer.bias is not None:
            layer.bias.copy_(shift.flatten())
