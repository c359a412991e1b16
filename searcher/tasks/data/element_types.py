"""The element types that a model and a loss get."""

import torch
from torch import Tensor


def as_input(tensor: Tensor, precision: torch.dtype) -> Tensor:
    """float64 in the model's ``precision``, any other type as it is."""
    return tensor.to(precision) if tensor.dtype == torch.float64 else tensor


def as_target(tensor: Tensor, precision: torch.dtype) -> Tensor:
    """Integers as int64, floating point numbers in ``precision``, other types as they are."""
    if tensor.is_floating_point():
        return tensor.to(precision)
    if tensor.dtype == torch.bool or tensor.is_complex():
        return tensor
    return tensor.to(torch.int64)
