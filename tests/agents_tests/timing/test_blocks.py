"""The gating on a machine whose clock, sessions and drift are made up."""

import gc
from itertools import compress

import pytest

from agents.protocol import MeasurePlan
from agents.timing.blocks import (
    BlockSeries,
    QuietLevel,
    blocks_verdict,
    plan_per_process,
    quiet_level,
    quiet_mask,
    time_rounds,
)
from agents.timing.calls import median, time_block

PLAN = MeasurePlan(name="test", block_s=0.004, min_blocks=10, min_s=0.0, max_s=2.0, gate=0.06,
                   fresh_session_every_s=0.3, warmup_s=0.01)


class Machine:
    """Time passes only in calls; ``busy(now_s)`` says when code is slowed."""

    def __init__(self, latencies_s, busy=lambda now_s: False, factors=None, open_s=0.001):
        self.now_ns = 0
        self.latencies_s = latencies_s
        self.busy = busy
        self.factors = factors or [1.4] * len(latencies_s)
        self.open_s = open_s
        self.announced = []
        self.called = []
        self.openings = 0

    def clock_ns(self):
        return self.now_ns

    def call(self, index):
        factor = self.factors[index] if self.busy(self.now_ns / 1e9) else 1.0
        self.now_ns += int(self.latencies_s[index] * factor * 1e9)
        self.called.append(index)

    def open_sessions(self):
        self.openings += 1
        self.now_ns += int(self.open_s * 1e9)
        return [lambda index=index: self.call(index) for index in range(len(self.latencies_s))]

    def measure(self, plan=PLAN, known_s=None):
        return time_rounds(self.open_sessions, plan, known_s, self.clock_ns,
                              self.announced.append, self.open_sessions(), self.open_s)


def gated_ratio(rounds, index, level, gate=PLAN.gate):
    series = rounds.series[index]
    ratios = map(lambda own, before, after: own * 2 / (before + after), *series.blocks())
    return median(list(compress(ratios, quiet_mask(series, level, gate))))


def test_a_block_is_calls_begun_within_its_time():
    machine = Machine([0.001])
    calls = time_block(machine.open_sessions()[0], 4000000, machine.clock_ns)
    assert calls == [1000000] * 4


def test_a_slow_model_gets_one_call_a_block():
    machine = Machine([0.1])
    assert time_block(machine.open_sessions()[0], 4000000, machine.clock_ns) == [100000000]


def test_the_order_alternates_and_neighbours_share_a_reference_block():
    machine = Machine([0.004, 0.004, 0.004, 0.004])
    plan = PLAN._replace(min_blocks=2, warmup_s=0.0, fresh_session_every_s=9.0)
    rounds = machine.measure(plan, known_s=0.004)
    after_warm_up = machine.called[4:]
    assert after_warm_up == [0, 1, 0, 2, 0, 3, 0] + [3, 0, 2, 0, 1, 0]
    assert len(rounds.reference_s) == 7
    assert [len(one.candidate_s) for one in rounds.series] == [2, 2, 2]


def test_every_session_is_announced_before_it_runs():
    machine = Machine([0.004, 0.004])
    machine.measure(PLAN._replace(warmup_s=0.0), 0.004)
    assert machine.announced == machine.called


def test_a_drifting_machine_gives_the_quiet_ratio():
    machine = Machine([107e-6, 16.4e-6], factors=[1.34, 1.71],
                      busy=lambda now_s: now_s % 0.5 < 0.35)
    rounds = machine.measure()
    level = quiet_level(sorted(rounds.reference_s), None)
    assert level.gate_s == pytest.approx(107e-6, rel=1e-3)
    assert gated_ratio(rounds, 0, level.gate_s) == pytest.approx(16.4 / 107, rel=0.01)
    ungated = gated_ratio(rounds, 0, level.gate_s, gate=9.0)
    assert ungated > 1.1 * 16.4 / 107
    assert blocks_verdict(rounds.series[0], level, PLAN).verdict == "valid"


def test_it_ends_when_every_candidate_has_its_quiet_blocks():
    machine = Machine([1e-4, 5e-5, 2e-5])
    rounds = machine.measure(known_s=1e-4)
    assert all(10 <= len(one.candidate_s) <= 12 for one in rounds.series)


def test_it_goes_on_until_the_least_time():
    machine = Machine([1e-4, 5e-5])
    machine.measure(PLAN._replace(min_s=1.0), 1e-4)
    assert 1.0 <= machine.now_ns / 1e9 < 1.2


def test_without_a_known_level_it_looks_on_for_the_whole_time_of_one_candidate():
    machine = Machine([1e-4, 5e-5, 2e-5])
    machine.measure()
    assert 2.0 <= machine.now_ns / 1e9 < 2.5


def test_a_machine_that_is_not_quiet_at_all_is_given_up_early():
    machine = Machine([1e-4, 5e-5, 5e-5], busy=lambda now_s: True)
    rounds = machine.measure(known_s=1e-4)
    assert 1.0 <= machine.now_ns / 1e9 < 1.2
    level = quiet_level(sorted(rounds.reference_s), 1e-4)
    assert level.busy
    assert blocks_verdict(rounds.series[0], level, PLAN) == ("invalid", ["busy"], 0)


def test_a_machine_that_is_quiet_now_and_then_gets_the_whole_time():
    plan = PLAN._replace(min_blocks=60)
    rounds = Machine([1e-4, 5e-5, 5e-5], busy=lambda now_s: now_s % 0.5 > 0.25).measure(plan, 1e-4)
    assert all(blocks_verdict(one, quiet_level(sorted(rounds.reference_s), 1e-4),
                              plan).verdict == "valid"
               for one in rounds.series)


def test_an_unknown_level_is_worth_the_whole_time_even_if_busy():
    machine = Machine([1e-4, 5e-5, 5e-5], busy=lambda now_s: True)
    machine.measure()
    assert machine.now_ns / 1e9 >= 2.0


def test_a_machine_slightly_above_its_known_level_counts_no_block():
    machine = Machine([1e-4, 5e-5], busy=lambda now_s: True, factors=[1.1, 1.1])
    rounds = machine.measure(known_s=1e-4)
    level = quiet_level(sorted(rounds.reference_s), 1e-4)
    assert level.gate_s == 1e-4 and not level.busy
    assert blocks_verdict(rounds.series[0], level, PLAN).reasons == ["busy"]


@pytest.mark.parametrize("known, expected", [
    (None, QuietLevel(1.0, 1.0, False)), (1.5, QuietLevel(1.0, 1.0, False)),
    (0.9, QuietLevel(0.9, 1.0, False)),
    (0.8, QuietLevel(1.0, 1.0, True)),
])
def test_the_known_level_gates_when_it_is_the_lower_and_near(known, expected):
    assert quiet_level([1.0] * 10 + [2.0] * 10, known) == expected


def test_the_level_is_the_five_percent_quantile():
    assert quiet_level([float(value) for value in range(100)], None).gate_s == 4.0


def test_sessions_are_reopened_and_the_reference_is_timed_again():
    machine = Machine([1e-4, 5e-5])
    rounds = machine.measure(PLAN._replace(min_s=1.0))
    assert rounds.openings == machine.openings >= 3
    blocks = len(rounds.series[0].candidate_s)
    assert len(rounds.reference_s) == blocks + rounds.openings


def test_sessions_slow_to_open_are_opened_rarely():
    machine = Machine([1e-3, 5e-4], open_s=0.5)
    rounds = machine.measure(PLAN._replace(min_s=2.0, max_s=4.0))
    assert rounds.openings == 1


def test_the_reference_alone_can_be_timed():
    rounds = Machine([1e-4]).measure(known_s=1e-4)
    assert rounds.series == []
    assert 10 <= len(rounds.reference_s) <= 12


def test_every_call_is_kept_with_the_length_of_its_block():
    rounds = Machine([1e-4, 1e-3]).measure()
    series = rounds.series[0]
    assert series.calls_per_block == [4] * len(series.candidate_s)
    assert series.calls_ns == [1000000] * sum(series.calls_per_block)


def test_garbage_collection_rests_meanwhile_and_is_restored():
    seen = []
    machine = Machine([1e-3, 1e-3])
    machine.busy = lambda now_s: seen.append(gc.isenabled())
    machine.measure()
    assert not any(seen) and gc.isenabled()


def test_processes_share_the_plan():
    part = plan_per_process(PLAN._replace(min_blocks=25, min_s=3.0, max_s=9.0, processes=3), 3)
    assert (part.min_blocks, part.min_s, part.max_s, part.processes) == (9, 1.0, 3.0, 1)


def test_series_pool_their_blocks():
    first, second = BlockSeries(), BlockSeries()
    first.add(1.0, [10, 20, 40], 2.0)
    second.add(3.0, [30], 4.0)
    first.extend(second)
    assert first.blocks() == ([20e-9, 30e-9], [1.0, 3.0], [2.0, 4.0])
    assert (first.calls_ns, first.calls_per_block) == ([10, 20, 40, 30], [3, 1])


def test_the_first_warm_up_goes_on_until_a_steady_state_is_detected():
    plan = PLAN._replace(warmup_s=0.01, warmup_max_s=1.0, max_s=0.1, fresh_session_every_s=9.0)
    machine = Machine([1e-3, 1e-3], busy=lambda now_s: now_s < 0.1, factors=[2.0, 2.0])
    rounds = machine.measure(plan, known_s=1e-3)
    assert rounds.unsteady == [] and max(rounds.reference_s) == pytest.approx(1e-3)


def test_what_never_settles_is_named():
    plan = PLAN._replace(warmup_max_s=0.5, max_s=0.1, fresh_session_every_s=9.0)
    machine = Machine([1e-3, 1e-3], factors=[1.0, 1.5],
                      busy=lambda now_s: now_s % 0.06 < 0.03)
    assert machine.measure(plan, known_s=1e-3).unsteady == [1]


def test_a_plan_without_time_for_it_does_not_look_for_a_steady_state():
    machine = Machine([1e-3, 1e-3], factors=[1.0, 1.5], busy=lambda now_s: now_s % 0.06 < 0.03)
    assert machine.measure(PLAN, known_s=1e-3).unsteady == []


def test_calls_shorter_than_the_clock_resolves_are_repeated():
    machine = Machine([1e-3, 2e-8])
    rounds = machine.measure(PLAN._replace(max_s=0.05, min_blocks=2), known_s=1e-3)
    assert rounds.repeats == [1, 5]
    assert set(rounds.series[0].calls_ns) == {20}


def test_blocks_are_counted_by_session():
    machine = Machine([1e-3, 1e-3])
    rounds = machine.measure(PLAN._replace(min_blocks=60, min_s=1.0), known_s=1e-3)
    blocks = rounds.series[0].session_blocks
    assert len(blocks) == machine.openings > 2
    assert sum(blocks) == len(rounds.series[0].candidate_s) and min(blocks) > 0
