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


def check_constraints(graph: ModelProto, model: nn.Module) -> None:
    """Raise BrokenPromiseError unless every table and every zero that the parametrizations of
    ``model`` promise is in ``graph``, the model as exported, before or after int8."""
    promised = promises(model)
    if not promised:
        return
    values, state = constants(graph.graph), baked(model).state_dict()
    for weight, found in promised.items():
        name = weight_name(weight, state, values)
        if name is not None:
            array = values[name]
        elif weight + QUANTIZED in values:
            array = values[weight + QUANTIZED]
        else:
            raise BrokenPromiseError(
                f"The constrained weight {weight!r} is not in the exported graph; something was "
                "folded into it after the constraint.")
        for promise in found:
            wrong = _broken(promise, array, state[weight].shape)
            if wrong:
                raise BrokenPromiseError(f"Weight {weight!r} of the exported graph {wrong}.")


def _broken(promise: Promise, array: Array, shape: tuple[int, ...]) -> str | None:
    if array.shape != shape:
        array = array.T
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
