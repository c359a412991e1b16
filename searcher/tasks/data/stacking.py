"""Samples to batches, as ``torch.utils.data.default_collate`` stacks them, with errors that name
split, sample and field."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from searcher.errors import TaskError
from searcher.tasks.user_code import described, user_code

EXPECTED = "Expected a tensor, a numpy array or a number"
_ADVICE = {
    "PIL": "convert pictures to tensors in the dataset, for example with torchvision's ToTensor "
           "or torch.from_numpy(numpy.array(picture))",
    "str": "leave texts out of the sample, or encode them as numbers",
    "NoneType": "leave it out of the sample, or give a number",
}


def stack(values: Sequence[Any], where: Callable[[int], str], field: str) -> Any:
    """One tensor (n, ...) of the ``values`` of n samples, or the structure of tensors that their
    structure gives. ``where(i)`` names value ``i``. Raises TaskError."""
    first = values[0]
    if isinstance(first, Tensor):
        return _stacked([_as(Tensor, value, where(i), field, first)
                         for i, value in enumerate(values)], where, field)
    if isinstance(first, np.ndarray | np.generic):
        arrays = [_tensor_of(_as((np.ndarray, np.generic), value, where(i), field, first),
                             where(i), field) for i, value in enumerate(values)]
        return _stacked(arrays, where, field)
    if isinstance(first, bool | int | float):
        numbers = [_as((bool, int, float), value, where(i), field, first)
                   for i, value in enumerate(values)]
        with user_code(f"{where(0)}: {field}"):
            return torch.tensor(numbers, dtype=torch.float64 if any(
                isinstance(number, float) for number in numbers) else None)
    if isinstance(first, Mapping):
        return {key: stack([_item(value, key, where(i), field) for i, value in enumerate(values)],
                           where, f"{field}[{key!r}]") for key in first}
    if isinstance(first, tuple | list):
        for i, value in enumerate(values):
            if not isinstance(value, tuple | list) or len(value) != len(first):
                raise TaskError(f"{where(i)}: {field} is {described(value)}, expected "
                                f"{described(first)} as in {where(0)}.")
        return tuple(stack([value[k] for value in values], where, f"{field}[{k}]")
                     for k in range(len(first)))
    raise refused(first, where(0), field)


def refused(value: object, where: str, field: str) -> TaskError:
    """The error for a value that no tensor can be made of."""
    kind = type(value)
    module = kind.__module__.partition(".")[0]
    advice = _ADVICE.get("PIL" if module == "PIL" else kind.__name__,
                         "convert it in the dataset")
    return TaskError(f"{where}: {field} is {described(value)}. {EXPECTED}: {advice}.")


def _item(value: Any, key: object, where: str, field: str) -> Any:
    if not isinstance(value, Mapping) or key not in value:
        raise TaskError(f"{where}: {field} is {described(value)}, expected a dictionary with the "
                        f"key {key!r} as in the first sample.")
    return value[key]


def _as(kinds: Any, value: Any, where: str, field: str, first: object) -> Any:
    if isinstance(value, kinds):
        return value
    raise TaskError(f"{where}: {field} is {described(value)}, but {described(first)} in another "
                    f"sample. {EXPECTED} of one kind in all samples.")


def _tensor_of(array: Any, where: str, field: str) -> Tensor:
    """A copy: an array may be read-only, and its dataset may write into it again."""
    if array.dtype.kind not in "biufc":
        raise TaskError(f"{where}: {field} is {described(np.asarray(array))}. Expected an array "
                        "of numbers: convert it in the dataset.")
    with user_code(f"{where}: {field} is {described(np.asarray(array))}"):
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))


def _stacked(tensors: Sequence[Tensor], where: Callable[[int], str], field: str) -> Tensor:
    first = tensors[0]
    for i, tensor in enumerate(tensors):
        if tensor.shape != first.shape:
            raise TaskError(
                f"{where(i)}: {field} has shape {tuple(tensor.shape)}, expected "
                f"{tuple(first.shape)} as in {where(0)}. Bring all samples to one shape in the "
                "dataset, or give a DataLoader whose collate_fn does.")
    with user_code(f"{where(0)}: {field} cannot be stacked"):
        # It writes into shared memory where a process of a DataLoader runs it.
        return default_collate([tensor.detach().cpu() for tensor in tensors])  # type: ignore[no-any-return]


def single(value: Any, where: str, field: str) -> Any:
    """``value``, one input of the model. Raises TaskError for a structure of several tensors."""
    if isinstance(value, Mapping | tuple | list):
        raise TaskError(f"{where}: {field} is {described(value)}. Expected one tensor or array for "
                        "each parameter of the model's forward.")
    return value


def check_batch(value: Any, count: int, where: str, field: str) -> Any:
    """``value`` of a collated batch, arrays as tensors. Raises TaskError unless every part of it
    is a tensor or an array with ``count`` rows."""
    if isinstance(value, np.ndarray):
        value = _tensor_of(value, where, field)
    if isinstance(value, Tensor):
        if value.dim() == 0 or len(value) != count:
            raise TaskError(f"{where}: {field} is {described(value)}, expected {count} rows, one "
                            "for each sample of the batch.")
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: check_batch(part, count, where, f"{field}[{key!r}]")
                for key, part in value.items()}
    if isinstance(value, tuple | list):
        return tuple(check_batch(part, count, where, f"{field}[{k}]")
                     for k, part in enumerate(value))
    raise refused(value, where, field)
