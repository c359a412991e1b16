"""Tables of shared values: weighted k-means on a line, and least squares for given codes."""

import torch
from torch import Tensor

LLOYD_STEPS = 40
REFITS = 2
"""How often a table is fitted again to the codes that it led to."""


def nearest(table: Tensor, values: Tensor) -> Tensor:
    """The member of ``table`` (ascending) that is closest to each of ``values``."""
    return table[torch.bucketize(values.contiguous(), (table[1:] + table[:-1]) / 2)]


def fitted(values: Tensor, importance: Tensor, count: int) -> Tensor:
    """(count,) ascending: k-means of ``values`` weighted by ``importance`` (of one shape), the
    better one of a start at even distances and a start at even shares of importance (Lloyd 1982,
    Least Squares Quantization in PCM)."""
    ordered, order = values.flatten().sort()
    distinct = ordered[torch.cat([ordered.new_ones(1), ordered.diff()]) != 0]
    if len(distinct) <= count:
        return torch.cat([distinct, distinct[-1:].expand(count - len(distinct))])
    sums = _Sums(ordered, importance.flatten()[order])
    even = torch.linspace(0, 1, count) * (ordered[-1] - ordered[0]) + ordered[0]
    share = (torch.arange(count, dtype=torch.float64) + 0.5) / count * sums.weight[-1]
    by_share = ordered[torch.searchsorted(sums.weight[1:], share).clamp(max=len(ordered) - 1)]
    return min((sums.settled(start) for start in (even, by_share)), key=lambda found: found[1])[0]


class _Sums:
    """Running sums of weighted values in ascending order: one step of k-means costs nothing."""

    def __init__(self, ordered: Tensor, weight: Tensor) -> None:
        self.ordered = ordered
        heavy, exact = weight.double(), ordered.double()
        zero = torch.zeros(1, dtype=torch.float64)
        self.weight, self.first, self.second = (
            torch.cat([zero, part.cumsum(0)])
            for part in (heavy, heavy * exact, heavy * exact.square()))

    def settled(self, table: Tensor) -> tuple[Tensor, float]:
        """The table after LLOYD_STEPS, and its weighted squared error."""
        for _ in range(LLOYD_STEPS):
            weight, first, _ = self._clusters(table)
            table = torch.where(weight > 0, first / weight.clamp_min(1e-300), table.double()).to(
                self.ordered.dtype).sort().values
        weight, first, second = self._clusters(table)
        exact = table.double()
        return table, float((second - 2 * exact * first + exact.square() * weight).sum())

    def _clusters(self, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inner = torch.searchsorted(self.ordered, (table[1:] + table[:-1]) / 2)
        ends = torch.tensor([0, len(self.ordered)])
        edges = torch.cat([ends[:1], inner, ends[1:]])
        weight, first, second = (running[edges].diff()
                                 for running in (self.weight, self.first, self.second))
        return weight, first, second


def refitted(table: Tensor, chosen: Tensor, weight: Tensor, hessian: Tensor, unit: Tensor
             ) -> Tensor:
    """The table of the least error ``(w - q) H (w - q)^T`` over all rows while every weight keeps
    its code. ``chosen`` (groups, rows, columns) are values of ``table``, ``unit`` (groups, rows,
    1) is what they are multiplied by; values that nothing chose stay."""
    normal = torch.zeros(len(table), len(table), dtype=torch.float64)
    right = torch.zeros(len(table), dtype=torch.float64)
    wanted = weight @ hessian
    members = [(chosen == value) * unit for value in table]
    for i, member in enumerate(members):
        pulled = member @ hessian
        right[i] = (member * wanted).sum(dtype=torch.float64)
        for j in range(i, len(table)):
            normal[i, j] = normal[j, i] = (pulled * members[j]).sum(dtype=torch.float64)
    used = normal.diagonal() > 0
    normal += torch.diag(torch.where(used, 1e-6 * normal.diagonal(), 1.0))
    solved = torch.linalg.solve(normal, right).to(table.dtype)
    return torch.where(used, solved, table).sort().values
