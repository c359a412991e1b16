"""Rounding with error feedback, tables of values, masks: what holds for any weight and input."""

import pytest
import torch

from strategies.repair.gptq import dampened, inverse_diagonal, quantize, toward, weighted_error
from strategies.repair.masks import compensated, most_salient
from strategies.repair.tables import fitted, nearest, refitted

SHAPES = pytest.mark.parametrize("shape", [(1, 8, 40), (1, 3, 130), (4, 2, 18), (6, 1, 9),
                                           (1, 5, 1)], ids=str)
SEEDS = pytest.mark.parametrize("seed", range(3))


def problem(shape, seed):
    """A weight, and the Hessian of correlated inputs of unlike sizes."""
    source = torch.Generator().manual_seed(seed)
    groups, _, columns = shape
    mixing = torch.randn(groups, columns, columns, generator=source)
    inputs = torch.rand(groups, 3 * columns, columns, generator=source) @ mixing
    return torch.randn(shape, generator=source), dampened(inputs.mT @ inputs / inputs.shape[1])


def table_rounding(table):
    return lambda weight, at: nearest(table, weight)


@SHAPES
@SEEDS
@pytest.mark.parametrize("count", [2, 4, 16])
def test_no_row_has_a_larger_error_than_rounded(shape, seed, count):
    weight, hessian = problem(shape, seed)
    table = torch.linspace(-2, 2, count)
    found = quantize(weight, hessian, table_rounding(table))
    assert torch.isin(found, table).all()
    errors = [weighted_error(weight - values, hessian)
              for values in (found, nearest(table, weight))]
    assert (errors[0] <= errors[1]).all()


def test_feedback_saves_most_of_the_error_where_inputs_are_alike():
    weight, hessian = problem((1, 16, 64), 0)
    table = torch.linspace(-2, 2, 4)
    found = quantize(weight, hessian, table_rounding(table))
    errors = [weighted_error(weight - values, hessian).sum()
              for values in (found, nearest(table, weight))]
    assert errors[0] < 0.5 * errors[1]


def test_inputs_that_are_never_seen_are_rounded():
    weight = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0))
    table = torch.linspace(-2, 2, 4)
    found = quantize(weight, dampened(torch.zeros(1, 6, 6)), table_rounding(table))
    assert torch.equal(found, nearest(table, weight))


@SHAPES
def test_the_diagonal_of_the_inverse(shape):
    _, hessian = problem(shape, 0)
    torch.testing.assert_close(inverse_diagonal(hessian).double(), hessian.double().inverse()
                               .diagonal(dim1=1, dim2=2), rtol=1e-2, atol=1e-6)


def test_a_weight_for_the_same_inputs_is_the_same():
    weight, hessian = problem((2, 3, 10), 0)
    torch.testing.assert_close(toward(weight, hessian, hessian), weight, rtol=1e-3, atol=1e-3)


def test_a_weight_makes_up_for_changed_inputs():
    source = torch.Generator().manual_seed(0)
    wanted = torch.randn(1, 400, 6, generator=source)
    present = wanted * torch.tensor([0.5, 1, 1, 1, 1, 1])
    weight = torch.randn(1, 3, 6, generator=source)
    second, cross = (left.mT @ present / 400 for left in (present, wanted))
    found = toward(weight, second, cross)
    errors = [(present @ w.mT - wanted @ weight.mT).square().sum() for w in (found, weight)]
    assert errors[0] < 0.2 * errors[1]


@pytest.mark.parametrize("count", [1, 2, 4, 16, 300])
def test_a_fitted_table_beats_even_distances(count):
    source = torch.Generator().manual_seed(1)
    values, importance = torch.randn(200, generator=source), torch.rand(200, generator=source)
    table = fitted(values, importance, count)
    assert len(table) == count and torch.equal(table, table.sort().values)
    even = torch.linspace(float(values.min()), float(values.max()), count)
    errors = [(importance * (values - nearest(t, values)).square()).sum() for t in (table, even)]
    assert errors[0] <= errors[1] + 1e-6
    if count == 300:
        assert errors[0] < 1e-6


def test_importance_draws_the_table():
    values = torch.tensor([0.0, 1.0, 10.0])
    table = fitted(values, torch.tensor([1e3, 1.0, 1.0]), 2)
    torch.testing.assert_close(table, torch.tensor([1e-3, 10.0]), atol=1e-3, rtol=0)


@SEEDS
def test_a_refitted_table_is_never_worse_for_its_codes(seed):
    weight, hessian = problem((2, 6, 20), seed)
    table = torch.tensor([-1.0, -0.2, 0.3, 1.5, 99.0])
    chosen = nearest(table, weight)
    found = refitted(table, chosen, weight, hessian, torch.ones(2, 6, 1))
    assert found[-1] == 99
    renamed = found[torch.searchsorted(table, chosen)]
    errors = [weighted_error(weight - values, hessian).sum() for values in (renamed, chosen)]
    assert errors[0] <= errors[1]


@SHAPES
@SEEDS
def test_compensation_never_makes_a_row_worse(shape, seed):
    weight, hessian = problem(shape, seed)
    kept = most_salient(weight, hessian, max(1, weight.numel() // 3))
    assert int(kept.sum()) == max(1, weight.numel() // 3)
    found = compensated(weight, hessian, kept)
    assert (found[~kept] == 0).all()
    errors = [weighted_error(weight - values, hessian) for values in (found, weight * kept)]
    assert (errors[0] <= errors[1] * 1.001 + 1e-6).all()


def test_compensation_is_the_least_squares_of_the_kept():
    weight, hessian = problem((1, 1, 12), 0)
    kept = torch.zeros(1, 1, 12, dtype=torch.bool)
    kept[..., ::2] = True
    found = compensated(weight, hessian, kept)[0, 0, ::2]
    exact = torch.linalg.solve(hessian[0, ::2, ::2].double(), (hessian[0, ::2] @ weight[0, 0])
                               .double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-2, atol=1e-2)


def test_a_hessian_that_is_not_definite_by_rounding():
    weight = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0))
    hessian = torch.diag_embed(torch.tensor([[1.0, 1.0, -1e-6, 0.0, 1e-8, 1.0]]))
    found = quantize(weight, hessian, table_rounding(torch.linspace(-2, 2, 4)))
    assert found.isfinite().all()
