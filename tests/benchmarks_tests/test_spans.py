"""Wall time from spans."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.spans import overlaps, union_s

INTERVALS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)).map(
    lambda pair: (float(pair[0]), float(pair[0] + pair[1]))), max_size=12)


def test_overlapping_and_nested_spans_count_once() -> None:
    spans = [(1.0, 4.0), (2.0, 3.0), (3.5, 6.0), (8.0, 9.0)]
    assert union_s(spans, 0.0, 10.0) == pytest.approx(6.0)


def test_spans_are_cut_at_the_campaign() -> None:
    assert union_s([(-5.0, 1.0), (9.0, 20.0), (30.0, 40.0)], 0.0, 10.0) == pytest.approx(2.0)


def test_no_spans_cover_nothing() -> None:
    assert union_s([], 0.0, 10.0) == 0.0


@given(INTERVALS)
def test_union_equals_counting_seconds(intervals: list[tuple[float, float]]) -> None:
    seconds = sum(any(a <= s and s + 1 <= b for a, b in intervals) for s in range(50))
    assert union_s(intervals, 0.0, 50.0) == pytest.approx(seconds)


def test_overlap_needs_common_time() -> None:
    assert overlaps([(0.0, 1.0), (3.0, 4.0)], [(1.0, 3.0)]) == 0
    assert overlaps([(0.0, 1.5), (3.0, 4.0)], [(1.0, 3.0), (1.2, 1.3)]) == 1
