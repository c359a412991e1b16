"""Quantization column by column, each rounding error paid for by the columns that follow.

Frantar et al. 2023, GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers. The error of a filter is ``(w - q) H (w - q)^T`` with the Hessian H of its inputs.
"""

from collections.abc import Callable

import torch
from torch import Tensor

DAMPENING = 0.01
"""Added to the diagonal of a Hessian, relative to its mean (Frantar et al. 2023)."""
RIDGE = 0.1
"""Added likewise where a weight is solved for changed inputs."""
BLOCK = 64

Rounding = Callable[[Tensor, Tensor], Tensor]
"""(weights (groups, rows, n), their columns (groups, n)) -> the values that stand for them."""


def dampened(hessian: Tensor) -> Tensor:
    """``hessian`` (groups, columns, columns) with a diagonal that makes it positive definite."""
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    mean = diagonal.clamp_min(0).mean(-1, keepdim=True)
    extra = DAMPENING * torch.where(mean > 0, mean, torch.ones_like(mean))
    return hessian + torch.diag_embed(extra.expand_as(diagonal))


def weighted_error(difference: Tensor, hessian: Tensor) -> Tensor:
    """(groups, rows): ``d H d^T`` of every row of ``difference`` (groups, rows, columns)."""
    return ((difference @ hessian) * difference).sum(-1)


def quantize(weight: Tensor, hessian: Tensor, rounding: Rounding) -> Tensor:
    """``weight`` (groups, rows, columns) of values that ``rounding`` gives; ``hessian`` is
    (groups, columns, columns) and dampened. No row has a larger error than rounded by itself."""
    groups, _, columns = weight.shape
    everywhere = torch.arange(columns).expand(groups, columns)
    plain = rounding(weight, everywhere)
    order = _order(hessian)
    fed_back = _fed_back(weight, hessian, rounding, order)
    better = weighted_error(weight - fed_back, hessian) < weighted_error(weight - plain, hessian)
    return torch.where(better.unsqueeze(-1), fed_back, plain)


def _fed_back(weight: Tensor, hessian: Tensor, rounding: Rounding, order: Tensor) -> Tensor:
    """Columns in ``order``, the important ones first, while others are left to pay for them."""
    across = order.unsqueeze(1).expand_as(weight)
    left = weight.gather(2, across)
    upper = _inverse_factor(_permuted(hessian, order))
    chosen = torch.empty_like(left)
    for start in range(0, left.shape[2], BLOCK):
        end = min(start + BLOCK, left.shape[2])
        errors = torch.zeros_like(left[..., start:end])
        for column in range(start, end):
            now = left[..., column]
            value = rounding(now.unsqueeze(-1), order[:, column : column + 1]).squeeze(-1)
            error = (now - value) / upper[:, column, column, None]
            left[..., column:end] -= error.unsqueeze(-1) * upper[:, column, None, column:end]
            chosen[..., column], errors[..., column - start] = value, error
        left[..., end:] -= errors @ upper[:, start:end, end:]
    return torch.empty_like(chosen).scatter_(2, across, chosen)


def _permuted(hessian: Tensor, order: Tensor) -> Tensor:
    rows = order.unsqueeze(2).expand_as(hessian)
    return hessian.gather(1, rows).gather(2, order.unsqueeze(1).expand_as(hessian))


def _inverse_factor(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse: U with ``U^T U = H^-1``. A Hessian that is not
    positive definite, by rounding, gets a larger diagonal."""
    # H = L L^T read from the last column to the first gives the factor without an inverse.
    flipped = hessian.flip(-1, -2)
    diagonal = flipped.diagonal(dim1=-2, dim2=-1)
    extra = DAMPENING * diagonal.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    while True:
        lower, failed = torch.linalg.cholesky_ex(flipped)
        if not bool(failed.any()):
            break
        more = torch.where(failed.unsqueeze(-1) > 0, extra, 0.0)
        flipped, extra = flipped + torch.diag_embed(more.expand_as(diagonal)), 4 * extra
    eye = torch.eye(hessian.shape[-1], dtype=hessian.dtype).expand_as(hessian)
    inverse: Tensor = torch.linalg.solve_triangular(lower, eye, upper=False)
    return inverse.flip(-1, -2)


def _order(hessian: Tensor) -> Tensor:
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    return diagonal.argsort(dim=-1, descending=True, stable=True)


def inverse_diagonal(hessian: Tensor) -> Tensor:
    """(groups, columns): the diagonal of the inverse of ``hessian``."""
    return _inverse_factor(hessian).square().sum(1)


def toward(weight: Tensor, second: Tensor, cross: Tensor) -> Tensor:
    """The weight (groups, rows, columns) that gives on present inputs what ``weight`` gives on
    those wanted, drawn to ``weight`` by a ridge: ``second`` (groups, columns, columns) is the mean
    of ``x x^T`` of present inputs, ``cross`` that of ``wanted x^T``."""
    mean = second.diagonal(dim1=-2, dim2=-1).clamp_min(0).mean(-1)
    ridge = torch.where(mean > 0, RIDGE * mean, 1.0)[:, None, None] * torch.eye(second.shape[-1])
    solved: Tensor = torch.linalg.solve(second + ridge, (weight @ (cross + ridge)).mT)
    return solved.mT
