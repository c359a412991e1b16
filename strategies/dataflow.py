"""How values flow through a model, seen by running it once.

A dispatch mode sees every operator with the storages that it reads and writes, hooks see the calls
of modules. So nothing is asked of the source code: control flow, in-place operators, functional
calls and torch's own fused modules are followed alike.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from strategies.base import StrategyError
from strategies.tensor_trees import leaves

CONTRACTIONS = frozenset({
    "convolution", "addmm", "mm", "bmm", "baddbmm", "addbmm", "addmv", "mv", "linear", "embedding",
    "lstm", "gru", "rnn_tanh", "rnn_relu", "mkldnn_rnn_layer", "_thnn_fused_lstm_cell"})
"""Operators whose number of output channels is a matter of their weight."""


@dataclass(frozen=True)
class Operator:
    """One operator that ran: ``name`` as torch's (``convolution``), the path of the innermost
    ``module`` that ran it, ``inside`` the paths of all, the storages that it ``reads`` and
    ``writes`` (views write nothing) and the ``constants`` among what it reads: names of the
    parameters and buffers from which they were computed."""

    name: str
    module: str
    inside: frozenset[str]
    reads: frozenset[int]
    writes: frozenset[int]
    constants: frozenset[str]


@dataclass(frozen=True)
class Call:
    """One call of a module: the tensors it got and gave, by identity and by storage, and the
    range of operators that ran in it."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    output_storages: frozenset[int]
    output_dims: tuple[int, ...]
    first: int
    end: int


@dataclass(frozen=True)
class Use:
    """How a model uses one weighted layer: the index of the first operator that applies its weight
    to a value, how often the layer was called, and what reads its weight without calling it."""

    first: int
    calls: int
    foreign: tuple[str, ...]


@dataclass(frozen=True)
class DataFlow:
    """What ran, in order. ``outputs`` are the storages of the model's outputs, ``sizes`` the bytes
    of all storages."""

    operators: tuple[Operator, ...]
    calls: Mapping[str, tuple[Call, ...]]
    outputs: frozenset[int]
    sizes: Mapping[int, int]

    def alive(self) -> tuple[int, ...]:
        """For each operator the bytes of all values that exist before it and that it or a later
        one reads."""
        made: dict[int, int] = {}
        last: dict[int, int] = {}
        for index, operator in enumerate(self.operators):
            for storage in operator.writes:
                made.setdefault(storage, index)
            for storage in operator.reads:
                last[storage] = index
        changes = [0] * (len(self.operators) + 1)
        for storage, end in last.items():
            size = self.sizes.get(storage, 0)
            changes[made[storage] + 1 if storage in made else 0] += size
            changes[end + 1] -= size
        return tuple(itertools.accumulate(changes))[:-1]

    def use_of(self, model: nn.Module, layer: str) -> Use | None:
        """None if the weight of ``layer`` (the path of a module) is applied to nothing."""
        mine = weight_names(model, layer)
        found = [(index, operator) for index, operator in enumerate(self.operators)
                 if operator.constants & mine]
        if not found:
            return None
        foreign = [f"{operator.name} in {operator.module or type(model).__name__}"
                   for _, operator in found if layer not in operator.inside]
        return Use(found[0][0], len(self.calls.get(layer, ())), tuple(dict.fromkeys(foreign)))

    def untouchable(self, model: nn.Module, layer: str) -> str | None:
        """Why ``layer`` must stay as it is, if it must: nothing or more than itself uses its
        weight."""
        use = self.use_of(model, layer)
        if use is None:
            return "the model does not use it"
        if use.foreign:
            return f"its weight is read by {', '.join(use.foreign)}, not by its own call"
        return None

    def producers(self, model: nn.Module, layers: Sequence[str]) -> frozenset[str]:
        """Those of ``layers`` that produce the model's outputs: whose result reaches an output
        with no other weight applied to it on the way."""
        owner = {name: layer for layer in layers for name in weight_names(model, layer)}
        writers: dict[int, list[Operator]] = {}
        for operator in self.operators:
            for storage in operator.writes:
                writers.setdefault(storage, []).append(operator)
        found: set[str] = set()
        waiting, seen = list(self.outputs), set(self.outputs)
        while waiting:
            for operator in writers.get(waiting.pop(), ()):
                found |= {owner[name] for name in operator.constants & owner.keys()}
                if operator.constants and operator.name in CONTRACTIONS:
                    continue
                fresh = operator.reads - seen
                seen |= fresh
                waiting.extend(fresh)
        return frozenset(found)


def weight_names(model: nn.Module, layer: str) -> frozenset[str]:
    """The parameters behind the weight of ``layer``, as ``DataFlow`` names them."""
    module = model.get_submodule(layer)
    own = module._parameters.get("weight")
    if parametrize.is_parametrized(module, "weight"):
        chain = cast(nn.ModuleDict, module.parametrizations)["weight"]
        known = {id(tensor) for tensor in chain.parameters(recurse=False)}
    else:
        known = set() if own is None else {id(own)}
    return frozenset(name for name, tensor in model.named_parameters() if id(tensor) in known)


def follow(model: nn.Module, example_inputs: Sequence[Tensor]) -> DataFlow:
    """Run ``model`` in evaluation mode on ``example_inputs`` (one tensor for each argument of its
    ``forward``); ``model`` stays as it is. Raises StrategyError(``unsupported_graph``) when it
    cannot be run."""
    recorder = _Recorder(model)
    own = [tensor.clone() for tensor in example_inputs]  # the model may write into them
    with evaluating(model), recorder.hooks():
        try:
            with recorder:
                result = model(*own)
        except Exception as error:
            raise StrategyError(
                f"{type(model).__name__} cannot be run on an example of its inputs: "
                f"{type(error).__name__}: {error}", "unsupported_graph") from error
    return recorder.flow(result)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within, ``model`` is in evaluation mode, gradients are off, and torch's fused attention,
    which reads weights past its modules, is off; random numbers are not used up."""
    modes = {module: module.training for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model.eval()
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes.items():
            module.training = training


@dataclass
class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    model: nn.Module
    operators: list[Operator] = field(default_factory=list)
    calls: dict[str, list[Call]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: list[Tensor] = []  # identities and storages must not be given out twice
        self._running: list[tuple[str, int]] = []
        self._constants: dict[int, frozenset[str]] = {}
        for entries in (self.model.named_buffers(), self.model.named_parameters()):
            for name, tensor in entries:
                place = _storage(tensor)
                self._constants[place] = self._constants.get(place, frozenset()) | {name}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*leaves(args), *leaves(kwargs or {})]
        result = func(*args, **(kwargs or {}))
        made = list(leaves(result))
        self._alive += [*given, *made]
        reads = frozenset(map(_storage, given))
        writes = frozenset(map(_storage, made)) - reads
        writes |= {_storage(tensor) for tensor in _mutated(func, args, kwargs or {})}
        constants = frozenset[str]().union(
            *(self._constants[place] for place in reads if place in self._constants))
        if reads and all(place in self._constants for place in reads):
            for place in writes:  # a constant of constants: a mask applied, a weight transposed
                self._constants[place] = self._constants.get(place, frozenset()) | constants
            return result
        names = [name for name, _ in self._running]
        self.operators.append(Operator(
            func.overloadpacket.__name__.rstrip("_"), names[-1] if names else "",
            frozenset(names), reads - self._constants.keys(), writes, constants))
        return result

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        handles: list[Any] = []
        for name, module in self.model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                handles += [module.register_forward_pre_hook(self._entering(name)),
                            module.register_forward_hook(self._leaving(name), with_kwargs=True)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, inputs: Any) -> None:
            self._running.append((name, len(self.operators)))
        return enter

    def _leaving(self, name: str) -> Callable[[nn.Module, Any, Any, Any], None]:
        def leave(module: nn.Module, inputs: Any, named: Any, output: Any) -> None:
            _, first = self._running.pop()
            got, gave = list(leaves((inputs, named))), list(leaves(output))
            self._alive += [*got, *gave]
            self.calls.setdefault(name, []).append(Call(
                name, tuple(map(id, got)), tuple(map(id, gave)), frozenset(map(_storage, gave)),
                tuple(tensor.dim() for tensor in gave), first, len(self.operators)))
        return leave

    def flow(self, result: object) -> DataFlow:
        """What was recorded while the model gave ``result``."""
        return DataFlow(tuple(self.operators),
                        {name: tuple(calls) for name, calls in self.calls.items()},
                        frozenset(map(_storage, leaves(result))),
                        {_storage(tensor): _bytes(tensor) for tensor in self._alive})


def _storage(tensor: Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse and other tensors without one
        return id(tensor)


def _bytes(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().nbytes()
    except (NotImplementedError, RuntimeError):
        return 0


def _mutated(func: Any, args: Sequence[object], kwargs: Mapping[str, object]) -> list[Tensor]:
    """The arguments that ``func`` writes into."""
    found: list[Tensor] = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        found += leaves(value)
    return found
