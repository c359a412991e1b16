"""Which weights to keep, and what the others leave to them (Hassibi and Stork 1993, Second Order
Derivatives for Network Pruning: Optimal Brain Surgeon)."""

import torch
from torch import Tensor

from strategies.repair.gptq import inverse_diagonal

STEPS = 32


def most_salient(weight: Tensor, hessian: Tensor, count: int) -> Tensor:
    """bool, the shape of ``weight`` (groups, rows, columns): the ``count`` weights whose loss
    would cost most after the others have made up for it."""
    saliency = weight.square() / inverse_diagonal(hessian).unsqueeze(1)
    kept = torch.zeros(weight.numel(), dtype=torch.bool)
    kept[saliency.flatten().topk(count).indices] = True
    return kept.view_as(weight)


def compensated(weight: Tensor, hessian: Tensor, kept: Tensor) -> Tensor:
    """``weight`` where ``kept`` changed so that the outputs change least, zero elsewhere. No row
    has a larger error ``(w - m) H (w - m)^T`` than the masked weight itself.

    Conjugate gradients on the kept coordinates of all rows at once; each step lowers the error.
    """
    found = weight * kept
    diagonal = hessian.diagonal(dim1=-2, dim2=-1).unsqueeze(1)
    residual = ((weight - found) @ hessian) * kept
    direction = residual / diagonal
    slope = (residual * direction).sum(-1, keepdim=True)
    for _ in range(STEPS):
        pulled = (direction @ hessian) * kept
        curve = (direction * pulled).sum(-1, keepdim=True)
        step = torch.where(curve > 0, slope / curve.clamp_min(1e-30), 0.0)
        found = found + step * direction
        residual = residual - step * pulled
        scaled = residual / diagonal
        steeper = (residual * scaled).sum(-1, keepdim=True)
        turn = torch.where(slope > 0, steeper / slope.clamp_min(1e-30), 0.0)
        direction = scaled + turn * direction
        slope = steeper
    return found
