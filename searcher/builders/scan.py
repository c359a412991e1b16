"""Scans of tasks: each layer of the baseline compressed alone, repaired, and compared."""

import contextlib
import copy
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from searcher.builders.prefixes import Prefixes
from searcher.builders.schedule import REPAIR_VERSION
from searcher.documents import parse, plain
from searcher.errors import BuildError
from searcher.jobs.scan import ScanRequest
from searcher.spec.scan_result import LayerScan, ScanLevel, ScanResult
from strategies.base import Strategy, StrategyError, StructureStrategy, WeightsStrategy
from strategies.catalog import UnknownStrategyError, strategy
from strategies.number_formats import FLOAT32
from strategies.repair.layer_inputs import moments_of
from strategies.repair.least_squares import repair_structure
from strategies.repair.sensitivity import SAMPLES, Compress, Weigh, constrained, loss_of_each
from strategies.weights.parametrizing import promises

REPAIR_SAMPLES = 32
"""Samples on which what follows a replaced layer is repaired."""
REPAIR_LAYERS = 6
"""How many layers are repaired, from the replaced one: those behind it win back most."""
FLOAT_BITS = 32
GRID_VALUES = 256
"""Codes of as many values as int8 need no table."""
MOSTLY = 0.95
"""With more weights than this share zeros are stored as any other value."""

Strategies = Callable[[float], Strategy]
Costs = tuple[float, ...]
"""(file_bytes, macs)."""


def scan(prefixes: Prefixes, request: ScanRequest) -> ScanResult:
    """Of the baseline with BatchNorm folded. A scan is kept with the builds by what it depends on;
    a coarser one counts only for requests of no more seconds. Raises BuildError."""
    try:
        found = strategy(request.strategy)
    except UnknownStrategyError as error:
        raise BuildError(str(error), "unknown_strategy") from error
    scannable = issubclass(found, StructureStrategy | WeightsStrategy)
    if not (scannable and found.by_layer and found.levels):
        raise BuildError(f"{found.name} has no parameter with a number for each layer.",
                         "bad_parameters")
    file = prefixes.cache.folder / _key(prefixes, request, found) / "scan.json"
    known = _read(file)
    if known is not None and (known[1].coarser is None or request.seconds <= known[0]):
        return known[1]
    try:
        result = _scanned(prefixes, found, request.seconds)
    except StrategyError as error:
        raise BuildError(f"scan of {found.name}: {error}", error.reason) from error
    _write(file, request.seconds, result)
    return result


def _key(prefixes: Prefixes, request: ScanRequest, found: type[Strategy]) -> str:
    text = json.dumps(["scan", prefixes.task.digest, prefixes.seed, found.name, found.version,
                       found.levels, REPAIR_VERSION, request.target.as_dict()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _scanned(prefixes: Prefixes, found: type[Strategy], seconds: float) -> ScanResult:
    began_s = time.monotonic()
    parameter, kind = next(iter(found.by_layer.items()))

    def at(strength: float) -> Strategy:
        return cast(Strategy, cast(Any, found)(**{parameter: kind(strength)}))

    model, samples = prefixes.folded(), prefixes.split.calibration(SAMPLES)
    sizes = {layer.name: math.prod(layer.weight_shape) for layer in prefixes.layers
             if any(at(level).changes(layer) for level in found.levels)}
    if not sizes:
        return ScanResult(found.name, parameter, (), 0)
    own, left = _own_costs(prefixes, model), dict[str, str]()
    if issubclass(found, StructureStrategy):
        if _repair_s(prefixes, at, model, own, next(iter(sizes))) * len(sizes) > seconds:
            # What removed channels cost without repair says nothing of what a candidate loses.
            return ScanResult(found.name, parameter, (), 0, "no time to repair each layer")
        structures = _Structures(prefixes, at, model, own)
        left = structures.left
        compress: Compress = structures.compress
        weigh: Weigh = structures.weigh
    else:
        compress = constrained(cast(Any, at), moments_of(model, list(sizes), samples))
        weigh = _weight_costs(at, own)
    left_s = max(seconds - (time.monotonic() - began_s), 0.0)
    scanned = loss_of_each(model, list(sizes), found.levels, samples, compress, left_s, weigh)
    return ScanResult(found.name, parameter, tuple(
        LayerScan(name, size, tuple(ScanLevel(strength, loss, *scanned.costs[name][strength])
                                    for strength, loss in sorted(scanned.losses[name].items())))
        for name, size in sizes.items() if name not in left),
        scanned.samples, scanned.coarser, left)


def _repair_s(prefixes: Prefixes, at: Strategies, model: nn.Module, own: Mapping[str, Costs],
              layer: str) -> float:
    """Seconds to compress and repair one layer."""
    began_s = time.monotonic()
    _Structures(prefixes, at, model, own).compress(model, layer, min(at(1.0).levels))
    return time.monotonic() - began_s


class _Structures:
    """Models in which one layer is replaced and what follows it is repaired. ``left`` says why
    layers were not: they cannot be, or their channels go with those of a layer before."""

    def __init__(self, prefixes: Prefixes, at: Strategies, model: nn.Module,
                 own: Mapping[str, Costs]) -> None:
        self.left = dict[str, str]()
        self._prefixes, self._at, self._model, self._own = prefixes, at, model, own
        self._example = prefixes.split.calibration(1)
        self._samples = prefixes.split.calibration(REPAIR_SAMPLES)
        self._layers = {layer.name: layer for layer in prefixes.layers}
        self._bytes, self._macs = _parameter_bytes(model), prefixes.operations(model)
        self._kept: Mapping[str, tuple[int, ...]] = {}
        self._together: dict[str, set[str]] = {}

    def compress(self, scanned: nn.Module, layer: str, strength: float) -> nn.Module | None:
        """See ``strategies.repair.sensitivity.Compress``."""
        strategy = self._at(strength)
        assert isinstance(strategy, StructureStrategy)
        self._kept = {}
        if layer in self.left or not strategy.changes(self._layers[layer]):
            return None
        try:
            found = strategy.restructure(copy.deepcopy(self._model), [layer], self._example)
        except StrategyError as error:
            if strength == min(strategy.levels):
                self.left[layer] = str(error)
            return None
        first = next((name for name in self._together if name in found.kept), layer)
        self._together.setdefault(first, set()).update(found.kept)
        if first != layer:
            self.left[layer] = f"its channels go with those of {first}"
            return None
        self._kept = found.kept
        return repair_structure(found.model, self._model, found.kept, self._samples,
                                most_layers=REPAIR_LAYERS)

    def weigh(self, changed: nn.Module, layer: str, strength: float) -> Costs:
        """The share that is kept of every layer whose channels go together; of a layer in parts
        what the parts cost."""
        together = self._together.get(layer)
        if together:
            shares = {name: len(self._kept[name]) / self._layers[name].weight_shape[0]
                      if name in self._kept else 1.0 for name in together}
            return tuple(sum(share * self._own[name][place] for name, share in shares.items())
                         for place in range(2))
        file_bytes, macs = self._own[layer]
        if changed is self._model:
            return file_bytes, macs
        return (file_bytes - self._bytes + _parameter_bytes(changed),
                macs - self._macs + self._prefixes.operations(changed))


def _weight_costs(at: Strategies, own: Mapping[str, Costs]) -> Weigh:
    """What the file needs for a constrained weight, about."""
    def weigh(changed: nn.Module, layer: str, strength: float) -> Costs:
        module, strategy = changed.get_submodule(layer), at(strength)
        assert isinstance(strategy, WeightsStrategy)
        alone = nn.ModuleDict({"layer": copy.deepcopy(module)})
        strategy.attach(alone, ["layer"], FLOAT32)
        promised = promises(alone).get("layer.weight", [])
        values = min((one.values for one in promised if one.values), default=None)
        scales = sum(one.scale.numel() for one in promised if one.scale is not None)
        return _coded_bytes(cast(Tensor, module.weight), values, scales), own[layer][1]
    return weigh


def _coded_bytes(weight: Tensor, values: int | None, scales: int) -> float:
    """Places of the weights that are not zero, and those or their codes in a table of
    ``values``."""
    size, kept = weight.numel(), int(weight.count_nonzero())
    share = kept / size
    places = 0.0 if share in (0.0, 1.0) or share > MOSTLY else -size * (
        share * math.log2(share) + (1 - share) * math.log2(1 - share))
    stored = kept if places else size
    if values is None or values > size:
        return (places + stored * FLOAT_BITS) / 8
    table = 0 if scales and values >= GRID_VALUES else values
    return (places + stored * math.log2(values) + (table + scales) * FLOAT_BITS) / 8


def _own_costs(prefixes: Prefixes, model: nn.Module) -> dict[str, Costs]:
    macs = prefixes.operations_of(model)
    return {layer.name: (_parameter_bytes(model.get_submodule(layer.name)),
                         macs.get(layer.name, 0)) for layer in prefixes.layers}


def _parameter_bytes(model: nn.Module) -> int:
    return sum(parameter.numel() * 4 for parameter in model.parameters())


def _read(file: Path) -> tuple[float, ScanResult] | None:
    """(seconds it was asked for, result)."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(file)
        document = json.loads(file.read_text())
        return document["seconds"], parse(ScanResult, document["scan"])
    return None


def _write(file: Path, seconds: float, result: ScanResult) -> None:
    """So that the file is whole or absent."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps({"seconds": seconds, "scan": plain(result)}))
    partial.replace(file)
