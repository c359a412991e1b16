"""Whether a graph holds the weights that the recipe constrained.

An exporter that folds a normalization into a clustered weight, or a quantizer that rounds it on
another grid, costs the whole gain without a word.
"""

import numpy as np
from onnx import ModelProto
from torch import Tensor, nn

from strategies.encoding.export import baked, weight_name
from strategies.encoding.graph import Array, constants
from strategies.weights.parametrizing import Promise, promises

QUANTIZED = "_quantized"
"""What ONNX Runtime's quantizer appends to the name of a weight."""


class BrokenPromiseError(RuntimeError):
    """A defect of a strategy or of the export: the recipe is sound, its file is not."""


def check_constraints(graph: ModelProto, model: nn.Module,
                      exported: ModelProto | None = None) -> None:
    """Raise BrokenPromiseError unless every table and every zero that the parametrizations of
    ``model`` promise is in ``graph``: the model as exported, or that after an encoding step, which
    may leave out weights of ``exported``."""
    promised = promises(model)
    if not promised:
        return
    values, state = constants(graph.graph), baked(model).state_dict()
    before = values if exported is None else constants(exported.graph)
    for weight, found in promised.items():
        name = weight_name(weight, state, before)
        if name is None and weight + QUANTIZED in values:
            name = weight
        if name is None:
            raise BrokenPromiseError(
                f"The constrained weight {weight!r} is not in the exported graph; something was "
                "folded into it after the constraint.")
        array = values.get(name, values.get(name + QUANTIZED))
        if array is None:
            continue
        turned = array.shape != state[weight].shape or (
            name != weight and not np.array_equal(before[name], _numpy(state[weight])))
        for promise in found:
            wrong = _broken(promise, array.T if turned else array)
            if wrong:
                raise BrokenPromiseError(f"Weight {weight!r} of the exported graph {wrong}.")


def _broken(promise: Promise, array: Array) -> str | None:
    if promise.zeros is not None:
        lost = int(np.count_nonzero(array[_numpy(promise.zeros)]))
        if lost:
            return f"has {lost} values where its mask has zeros"
    if promise.values is not None:
        units = array
        if promise.scale is not None and array.dtype == np.float32:
            units = array / _numpy(promise.scale)
        distinct = np.unique(units).size
        if distinct > promise.values:
            return f"has {distinct} distinct values, its table {promise.values}"
    return None


def _numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array
