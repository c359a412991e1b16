"""When candidates are measured; ``test_loop`` tests how the results are used."""

from typing import Any

import pytest

from searcher.jobs.build import BuildResult, GraphCosts
from searcher.jobs.measure import MeasureRequest
from searcher.ledger.tables.search_state import BaselineState, FileRef
from searcher.search.candidate import Candidate
from searcher.search.measurement_batches import (
    BATCH,
    LONGEST_WAIT_S,
    SMALLEST_SCREENING,
    MeasurementBatches,
)
from searcher.spec.measurement_plan import PLANS
from searcher.spec.recipe import Recipe
from tests.searcher_tests.fake_coordinator import campaign, requests_of

BASELINE = BaselineState("0" * 64, 1000, 1e-3, {}, {})
MORE_EXPECTED = {True: True, False: True}


class Sent:
    """Replaces ``JobFlow``."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def submit(self, request: MeasureRequest, priority: int, then: Any) -> None:
        self.sizes.append(len(request.message.candidates))


class Bench:
    def __init__(self) -> None:
        self.now_s, self.sent, self._count = 100.0, Sent(), 0
        jobs: Any = self.sent
        self.batches = MeasurementBatches(jobs, requests_of(campaign()), lambda one: None,
                                          lambda one, why: None, lambda: self.now_s)

    def add(self, count: int, stage: str) -> list[Candidate]:
        made = []
        for _ in range(count):
            self._count += 1
            made.append(Candidate(self._count, self._count, Recipe()))
            made[-1].set_build(BuildResult(f"{self._count:064x}", 10, GraphCosts(1000)))
            self.batches.add(made[-1], stage)
        return made

    def send(self, more_expected: dict[bool, bool] = MORE_EXPECTED, idle: bool = False,
             hold: bool = False) -> list[int]:
        self.sent.sizes.clear()
        self.batches.send(BASELINE, more_expected, idle, hold)
        return self.sent.sizes


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_full_batch_is_screened_at_once(bench: Bench) -> None:
    bench.add(2 * BATCH + 1, "measuring")
    assert bench.send() == [BATCH, BATCH]
    assert bench.send(idle=True) == [1]


def test_trained_candidates_wait_in_any_number(bench: Bench) -> None:
    """Otherwise candidates from a busy measurement would be repeated at once, for minutes."""
    bench.add(2 * BATCH, "measuring again")
    assert bench.send() == []
    bench.now_s += LONGEST_WAIT_S
    bench.add(1, "measuring again")
    assert bench.send() == [BATCH, BATCH], "the last one has just come"


def test_the_smallest_screening_without_further_builds(bench: Bench) -> None:
    none = {True: False, False: True}
    bench.add(SMALLEST_SCREENING - 1, "measuring")
    assert bench.send(none) == []
    bench.add(1, "measuring")
    assert bench.send() == [] and bench.send(none) == [SMALLEST_SCREENING]


def test_trained_candidates_wait_for_the_longest_wait(bench: Bench) -> None:
    bench.add(1, "measuring again")
    bench.now_s += LONGEST_WAIT_S - 1
    bench.add(1, "measuring again")
    assert bench.send() == []
    bench.now_s += 1
    assert bench.send() == [2], "the first waited long enough, and the second goes with it"


def test_trained_candidates_do_not_wait_without_trainings(bench: Bench) -> None:
    bench.add(1, "measuring again")
    assert bench.send({True: True, False: False}) == [1]


def test_queued_candidates_can_be_dropped(bench: Bench) -> None:
    first, _ = bench.add(2, "measuring again")
    bench.batches.drop(first)
    assert bench.send(idle=True) == [1] and bench.send(idle=True) == []


def test_trained_candidates_are_held_at_the_end(bench: Bench) -> None:
    bench.add(1, "measuring")
    trained = bench.add(2, "measuring again")
    assert bench.send(idle=True, hold=True) == [1]
    assert bench.batches.held == trained
    assert bench.send(idle=True) == [2] and bench.batches.held == []


def test_equal_files_share_one_measurement() -> None:
    twice = [FileRef("f", 3), FileRef("f", 3)]
    request = requests_of(campaign()).measure(FileRef("r", 1), twice, PLANS["quick"], 1)
    assert request.payload()["candidates"] == [{"sha256": "f", "size_bytes": 3}]
