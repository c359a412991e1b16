import numpy as np
import pytest

from searcher.statistics.sequential_test import ALPHA, Estimate, estimate, spent


def compared(ratio: float, rng: np.random.Generator, noise: float = 0.005,
             looks: int = 12, role: float = 0.006) -> Estimate | None:
    """The last estimate of a comparison that stops when it is decided; what the reference is costs
    a file ``role``."""
    found, paid, ratios, changed = None, 0.0, [], []
    for look in range(1, looks + 1):
        changed.append(look % 2 == 0)
        off = noise * rng.standard_normal() + (role if changed[-1] else -role)
        ratios.append(ratio * float(np.exp(off)))
        now = estimate(ratios, changed, spent(look / looks) - paid)
        if now is not None:
            found, paid = now, spent(look / looks)
            if found.verdict != "undecided":
                break
    return found


def test_all_is_spent_at_the_end_and_never_more() -> None:
    shares = [spent(share / 20) for share in range(21)]
    assert shares[0] == 0 and shares[-1] == pytest.approx(ALPHA) and shares == sorted(shares)
    assert spent(1.7) == pytest.approx(ALPHA)


def test_intervals_hold_the_ratio_although_it_stops_early() -> None:
    rng = np.random.default_rng(5)
    found = [compared(ratio, rng) for ratio in (1.0, 1.01, 1.03, 0.5) for _ in range(100)]
    truth = [ratio for ratio in (1.0, 1.01, 1.03, 0.5) for _ in range(100)]
    held = [one is not None and one.low <= ratio <= one.high
            for one, ratio in zip(found, truth, strict=True)]
    assert sum(held) >= 0.95 * len(held)


def test_three_percent_are_found_and_a_copy_is_no_difference() -> None:
    rng = np.random.default_rng(6)
    assert [compared(1.03, rng).verdict for _ in range(60)].count("slower") >= 59  # type: ignore[union-attr]
    assert [compared(1 / 1.03, rng).verdict for _ in range(60)].count("faster") >= 59  # type: ignore[union-attr]
    copies = [compared(1.0, rng).verdict for _ in range(60)]  # type: ignore[union-attr]
    assert set(copies) <= {"equal", "undecided"} and copies.count("equal") > 30


def test_a_ratio_at_the_edge_of_equality_stays_undecided_rather_than_wrong() -> None:
    rng = np.random.default_rng(7)
    said = [compared(1.01, rng, noise=0.01).verdict for _ in range(60)]  # type: ignore[union-attr]
    assert said.count("undecided") >= 50


def test_the_role_is_taken_off_also_when_one_was_seen_more_often() -> None:
    found = estimate([0.99, 1.01, 0.99, 1.01, 0.99], [False, True, False, True, False], 0.01)
    assert found is not None and found.verdict == "equal"
    assert found.ratio == pytest.approx((0.99 * 1.01) ** 0.5)


def test_too_few_looks_say_nothing() -> None:
    both = [False, True, False, True, False]
    assert estimate([1.0] * 3, both[:3], 0.05) is None and estimate([1.0] * 5, both, 0.0) is None
    assert estimate([1.0] * 5, [False] * 5, 0.05) is None
    assert estimate([1.1] * 4, both[:4], 0.01) == Estimate(
        pytest.approx(1.1), pytest.approx(1.1), pytest.approx(1.1), "slower")
