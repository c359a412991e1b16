"""Doubts and reasons from plain values."""

import random

import pytest

from agents.measurement import verdict
from agents.measurement.watch import CoolDown, DeviceObservations
from agents.platform.conditions import Conditions
from agents.platform.environment import MachineState
from agents.protocol import (
    Blocks,
    Measured,
    MeasurePlan,
    NodesMeasured,
    NodeTime,
    PowerMode,
)

PLAN = MeasurePlan(name="test", block_s=0.004, min_blocks=2, min_s=0.0, max_s=2.0, gate=0.06,
                   fresh_session_every_s=0.5, warmup_s=0.01)
COOL = CoolDown(0.0, 40.0, 60.0)
PINNED = MachineState(governor="performance")


def measured(state="valid", **fields):
    return Measured("sha", state, [], 0.1, 0.1, Blocks([], [], []), "", [], [], "P")._replace(
        **fields)


def kinds(doubts):
    return [doubt.partition(":")[0] for doubt in doubts]


@pytest.mark.parametrize("conditions, expected", [
    (Conditions(2.0, 0.99, 0.05, 0.0, 0.9), []),
    (Conditions(2.0, 0.8, 0.05, 0.0, 0.0), ["interrupted"]),
    (Conditions(2.0, 0.99, 0.9, 0.0, 0.0), ["busy machine"]),
    (Conditions(2.0, None, None, None, 0.5), ["busy machine"]),
    (Conditions(2.0, 0.99, 0.0, 0.2, 0.0), ["stolen"]),
    (Conditions(2.0), []),
])
def test_conditions(conditions, expected):
    assert kinds(verdict.condition_doubts(conditions, True)) == expected


def test_a_thread_that_waits_for_an_accelerator_is_not_interrupted():
    assert verdict.condition_doubts(Conditions(2.0, 0.2), False) == []
    assert verdict.measuring_thread_computes("onnxruntime", "CPUExecutionProvider")
    assert not verdict.measuring_thread_computes("onnxruntime", "CUDAExecutionProvider")
    assert not verdict.measuring_thread_computes("fake", "FakeExecutionProvider")
    assert not verdict.measuring_thread_computes("trtexec", "TensorrtExecutionProvider")


def test_a_stalled_call_is_reported_with_its_time():
    calls = [1000000] * 50
    assert verdict.call_doubts(calls) == [] == verdict.call_doubts([])
    assert "took 0.08 s, the median 0.001 s" in verdict.call_doubts(calls + [80000000])[0]
    assert verdict.call_doubts([900000000] * 5 + [990000000]) == []


def series(levels):
    source = random.Random(3)
    return [level * (1 + source.gauss(0, 0.004)) for level in levels]


@pytest.mark.parametrize("levels, expected", [
    ([1.0] * 50, []),
    ([1.0 + 0.002 * n for n in range(50)], ["drift"]),
    ([1.0] * 40 + [1.2] * 9, ["no steady state"]),
])
def test_series_that_change(levels, expected):
    assert kinds(verdict.ratio_doubts(series(levels))) == expected
    # A step of the reference is a state of the machine, and the gate's to judge.
    assert kinds(verdict.reference_doubts(series(levels))) == [
        kind for kind in expected if kind == "drift"]


def test_doubts_from_the_state_of_the_device():
    still = DeviceObservations([700, 1500, 1480, 1500], 45.0)
    assert verdict.device_doubts(PINNED, PINNED, still, COOL) == []
    assert verdict.device_doubts(MachineState(), MachineState(), DeviceObservations([]),
                                 CoolDown(0.0, None, 60.0)) == []
    free = MachineState(governor="schedutil", charging=True)
    assert kinds(verdict.device_doubts(free, PINNED, DeviceObservations([1500, 1000]),
                                       CoolDown(9.0, 61.5, 60.0))) == [
        "hot", "clock drop", "charging", "unpinned"]


MAXN = PowerMode("MAXN", 0, 2000000, 1300000)
CPU, GPU = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize("clocks, gpu, provider, told", [
    ([345000, 1990000, 2000000], [], CPU, None),
    ([345000, 1200000, 1210000], [], CPU,
     "clock drop: the clock was at most 1210000 kHz, the power mode MAXN has 2000000 kHz"),
    ([1850000, 1790000], [], CPU, "clock drop: the clock fell from 1850000 to 1790000 kHz within"),
    ([345000, 1200000, 1210000], [1300000], GPU, None),
    ([345000, 1200000, 1000000], [1300000], GPU, "clock drop: the clock fell from 1200000"),
    ([2000000], [114000, 1300000, 850000], GPU, "clock drop: the GPU's clock fell from 1300000"),
    ([2000000], [850000, 860000], GPU, "clock drop: the GPU's clock was at most 860000 kHz"),
    ([2000000], [114000, 850000], CPU, None),
    ([1000000], [], "", None),
])
def test_in_a_known_power_mode_clocks_are_held_to_it(clocks, gpu, provider, told):
    found = verdict.clock_doubts(DeviceObservations(clocks, None, gpu), MAXN, [provider])
    assert len(found) == (told is not None) and (told is None or found[0].startswith(told))
    partial = verdict.clock_doubts(DeviceObservations([1200000], None, [850000]),
                                   PowerMode("uncapped"), [CPU, GPU])
    assert partial == []


@pytest.mark.parametrize("options, provider, falls", [
    ({}, "CPUExecutionProvider", False),
    ({"providers": ["CUDAExecutionProvider"]}, "CUDAExecutionProvider", False),
    ({"providers": ["CUDAExecutionProvider"]}, "", False),
    ({"providers": ["CUDAExecutionProvider"]}, "CPUExecutionProvider", True),
    ({"providers": [["TensorrtExecutionProvider", {}], "CUDAExecutionProvider"]},
     "CUDAExecutionProvider", True),
])
def test_another_provider_than_the_requested_one(options, provider, falls):
    reason = verdict.provider_fallback(options, provider)
    assert (reason is not None) == falls and (reason is None or provider in reason)


GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.mark.parametrize("providers, state, told", [
    ([GPU, GPU], "valid", None), ([], "valid", None),
    ([GPU, CPU], "valid", "1 of 2 nodes ran on CPUExecutionProvider (Op1)"),
    ([CPU, CPU], "invalid", "2 of 2 nodes ran on CPUExecutionProvider (Op0, Op1)")])
def test_nodes_on_another_provider_than_the_requested_one(providers, state, told):
    nodes = NodesMeasured("", nodes=[NodeTime("", "Op{}".format(place), one, 1e-5)
                                     for place, one in enumerate(providers)])
    one = verdict.with_nodes(measured(nodes=nodes), {"providers": [GPU]}, PLAN)
    assert one.verdict == state
    texts = [] if told is None else ["provider fallback: {} was asked for, {}".format(GPU, told)]
    assert [*one.reasons, *one.warnings] == texts
    strict = verdict.with_nodes(measured(nodes=nodes), {"providers": [GPU]},
                                PLAN._replace(refuse_doubt=True))
    assert strict.reasons == texts
    assert verdict.with_nodes(measured(nodes=nodes), {}, PLAN) == measured(nodes=nodes)
    told_already = measured(reasons=["provider fallback: x"], nodes=nodes)
    assert verdict.with_nodes(told_already, {"providers": [GPU]}, PLAN) is told_already


def test_doubts_are_warnings_without_duplicates():
    one = verdict.with_doubts(measured(warnings=["a: 1"]), ["a: 1", "b: 2"], PLAN)
    assert (one.verdict, one.reasons, one.warnings) == ("valid", [], ["a: 1", "b: 2"])


def test_a_plan_that_refuses_doubt_makes_it_invalid():
    strict = PLAN._replace(refuse_doubt=True)
    one = verdict.with_doubts(measured(), ["hot: 80", "unpinned: x"], strict)
    assert (one.verdict, one.reasons) == ("invalid", ["hot: 80"])
    assert verdict.with_doubts(measured(), ["unpinned: x"], strict).verdict == "valid"
    assert verdict.with_doubts(measured(), [], strict).verdict == "valid"
    failed = measured("failed")
    assert verdict.with_doubts(failed, ["hot: 80"], strict) is failed
