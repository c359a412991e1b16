"""Energy of rails whose integrals are known, and every reason to refuse."""

import math

import pytest

from agents.measurement.energy.integral import EnergyUnavailable, integral
from agents.measurement.energy.per_inference import energy_per_inference, select_rails
from agents.measurement.energy.polling import MeterRecorder, PolledRail
from agents.meters.fake import FakeMeter
from agents.protocol import Rail
from agents.timing.energy_phases import LEAD_S, run_phases

POWER = Rail("a_mw", "mW", "here", "board", "total", "instant")
COUNTER = Rail("a_uj", "uJ", "here", "cpu", "addend", "counter")
POLL_S, UPDATE_S = 0.04, 0.1
LOAD, BEFORE, AFTER = (10.0, 30.0), (1.0, 9.0), (31.5, 39.5)


def watts(moment):
    return 5.0 + 0.05 * math.sin(moment * 3) + (20.0 if 9.5 < moment < 31.0 else 0.0)


def joules(moment):
    """The integral of ``watts`` since zero."""
    return (5.0 * moment + 0.05 / 3 * (1 - math.cos(moment * 3))
            + 20.0 * min(max(moment - 9.5, 0.0), 21.5))


def trace_of(rail, figure, end_s=40.0):
    times = [place * POLL_S for place in range(int(end_s / POLL_S) + 1)]
    held = [math.floor(moment / UPDATE_S + 1e-6) * UPDATE_S for moment in times]
    return PolledRail("test", rail, times, [float(int(figure(moment))) for moment in held])


def power_trace():
    return trace_of(POWER, lambda moment: watts(moment) * 1e3)


def counter_trace(wraps_at=None):
    return trace_of(COUNTER._replace(wraps_at=wraps_at),
                    lambda moment: joules(moment) * 1e6 % (wraps_at or 1e18))


def without(trace, start_s, end_s):
    kept = [place for place, moment in enumerate(trace.times_s) if not start_s < moment < end_s]
    return trace._replace(times_s=[trace.times_s[place] for place in kept],
                          values=[trace.values[place] for place in kept])


@pytest.mark.parametrize("trace", [power_trace(), counter_trace(), counter_trace(3e7)])
def test_gross_and_net_energy_of_a_call(trace):
    found = energy_per_inference([trace], "cpu", LOAD, 100, BEFORE, AFTER)
    assert found.gross_j == pytest.approx((joules(30) - joules(10)) / 100, rel=0.005)
    assert found.net_j == pytest.approx(4.0, rel=0.01)
    assert found.idle_before_w == pytest.approx(5.0, rel=0.01)
    assert found.idle_after_w == pytest.approx(5.0, rel=0.01)
    assert abs(found.net_j - 4.0) <= found.net_error_j
    assert found.updates >= 100 and found.update_s == pytest.approx(UPDATE_S, abs=POLL_S)
    assert found.idle_problem == ""


def test_without_idle_windows_there_is_gross_energy_only():
    found = energy_per_inference([power_trace()], "cpu", LOAD, 100)
    assert found.gross_j > 0 and found.net_j is None and found.idle_problem == "no idle windows"


def test_the_drift_of_idle_power_is_an_error_of_the_net_energy():
    trace = trace_of(POWER, lambda moment: 1e3 * (watts(moment) + (2.0 if moment > 31 else 0.0)))
    found = energy_per_inference([trace], "cpu", LOAD, 100, BEFORE, AFTER)
    assert found.idle_drift_j == pytest.approx(1.0 * 20 / 100, rel=0.05)
    assert found.net_error_j > found.gross_error_j + found.idle_drift_j


def test_separate_rails_are_summed():
    memory = counter_trace()._replace(rail=COUNTER._replace(name="b_uj", covers="memory"))
    both = energy_per_inference([counter_trace(), memory], "cpu", LOAD, 100, BEFORE, AFTER)
    assert both.gross_j == pytest.approx(2 * (joules(30) - joules(10)) / 100, rel=0.005)
    assert both.covers == "a_uj + b_uj (no rail covers the board)"


def still(trace):
    return trace._replace(values=[trace.values[400] if 16 < moment < 18 else trace.values[place]
                                  for place, moment in enumerate(trace.times_s)])


def restarted(trace):
    return trace._replace(values=[value % 3e8 for value in trace.values])


@pytest.mark.parametrize(("trace", "load", "reason"), [
    (power_trace(), (10.0, 18.0), "window too short: [78]. updates of a_mw in 8.0 s"),
    (counter_trace(), (10.0, 18.0), "window too short"),
    (without(power_trace(), 15.0, 15.5), LOAD, "meter gaps: a_mw was not read for"),
    (without(counter_trace(3e7), 15.0, 15.9), LOAD, "meter gaps: .* wraps every"),
    (still(power_trace()), LOAD, "meter gaps: a_mw was the same for"),
    (still(counter_trace()), LOAD, "meter gaps"),
    (restarted(counter_trace()), LOAD, "meter reset: a_uj went back"),
    (power_trace(), (10.0, 41.0), "meter gaps: a_mw was not read from the beginning"),
    (power_trace()._replace(values=[float("nan")] * 1001), LOAD, "meter gaps"),
    (trace_of(POWER, lambda moment: 7.0), LOAD, "window too short: 0 updates"),
])
def test_a_window_without_energy_is_refused(trace, load, reason):
    with pytest.raises(EnergyUnavailable, match="^" + reason):
        energy_per_inference([trace], "cpu", load, 100)


def test_a_counter_tolerates_a_short_gap_of_polls():
    found = energy_per_inference([without(counter_trace(), 15.0, 15.5)], "cpu", LOAD, 100)
    assert found.gross_j == pytest.approx((joules(30) - joules(10)) / 100, rel=0.005)


@pytest.mark.parametrize("unread", [(9.99, 10.15), (29.75, 29.95)])
def test_a_late_poll_at_an_edge_adds_no_energy(unread):
    """Two updates that are seen a poll apart are not made of more than twice the power."""
    late = without(counter_trace(), *unread)
    assert integral(late, *LOAD).energy_j == pytest.approx(joules(30) - joules(10), rel=0.004)


def test_updates_beyond_the_window_are_not_counted():
    trace = counter_trace()
    found = integral(trace, 10.0, 20.0)
    moved = [trace.times_s[place] for place in range(1, len(trace.values))
             if trace.values[place] != trace.values[place - 1]]
    assert found.updates == sum(10.0 < at <= 20.0 for at in moved)


def test_unreadable_polls_are_left_out():
    trace = power_trace()
    holes = trace._replace(values=[float("nan") if place % 9 == 0 else value
                                   for place, value in enumerate(trace.values)])
    assert integral(holes, *LOAD).energy_j == pytest.approx(joules(30) - joules(10), rel=0.005)


def test_two_registers_do_not_make_more_updates_than_the_meter_claims():
    trace = trace_of(POWER._replace(update_s=1.0), lambda moment: watts(moment) * 1e3)
    with pytest.raises(EnergyUnavailable, match="window too short: 21 updates"):
        energy_per_inference([trace], "cpu", LOAD, 100)


def test_a_window_without_calls_or_without_length_is_none():
    with pytest.raises(EnergyUnavailable, match="not one call"):
        energy_per_inference([power_trace()], "cpu", LOAD, 0)
    with pytest.raises(ValueError, match="no length"):
        integral(power_trace(), 5.0, 5.0)


def test_the_consumer_must_be_covered():
    with pytest.raises(EnergyUnavailable,
                       match="no meter: no rail covers the gpu, only"):
        select_rails([COUNTER], "gpu")
    with pytest.raises(EnergyUnavailable, match="no meter"):
        select_rails([], "board")
    assert select_rails([COUNTER, POWER], "gpu").covers == "a_mw"


def test_phases_hold_whole_calls_and_leave_out_the_leads():
    now = [0.0]

    def advance(seconds):
        now[0] += seconds

    found = run_phases(lambda: advance(0.25), 3.0, 2.0, lambda: now[0], advance)
    assert found.calls == 12 and found.load[1] - found.load[0] == pytest.approx(3.0)
    assert found.idle_before == pytest.approx((LEAD_S, LEAD_S + 2.0))
    assert found.idle_after == pytest.approx((found.load[1] + LEAD_S, found.load[1] + LEAD_S + 2))
    told = []
    again = run_phases(lambda: advance(0.25), 3.0, 2.0, lambda: now[0], advance,
                       lambda working: told.append((now[0], working)))
    start, end = again.load
    assert [working for at, working in told] == [start <= at < end for at, _ in told]
    none = run_phases(lambda: advance(0.25), 3.0, 0.0, lambda: now[0], advance)
    assert none.idle_before is None and none.idle_after is None


def test_a_recorder_polls_twice_per_update_period():
    rails = [POWER, POWER._replace(update_s=0.1), POWER._replace(update_s=60.0)]
    assert [MeterRecorder([FakeMeter(rail=rail)], lambda: 0.0).period_s() for rail in rails] == [
        0.02, 0.05, 0.5]
