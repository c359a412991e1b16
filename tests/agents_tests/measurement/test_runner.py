"""Blame, restarts and pooling with scripted children and a made-up clock."""

import pytest

from agents.child.progress import NO_SESSION
from agents.measurement.child_process import Child, ChildProgress
from agents.measurement.runner import measure, step_limit_s
from agents.measurement.supervision import JobCancelled, JobFailed
from agents.protocol import MeasurePlan, ProtocolError, pack_samples, unpack_samples

PLAN = MeasurePlan(name="test", block_s=0.004, min_blocks=2, min_s=0.0, max_s=2.0, gate=0.06,
                   fresh_session_every_s=0.5, warmup_s=0.01)


def payload(count=2, **changes):
    plan = PLAN._replace(**{key: changes.pop(key) for key in list(changes) if key in PLAN._fields})
    files = [{"sha256": "sha{}".format(index), "size_bytes": 10} for index in range(count + 1)]
    return dict({"reference": files[0], "candidates": files[1:], "runtime": "fake", "options": {},
                 "plan": dict(plan._asdict()), "quiet_level_s": None, "input_seed": 0,
                 "attempt": 1}, **changes)


PATHS = {"sha{}".format(index): "/models/{}".format(index) for index in range(9)}


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


class ScriptedChild(Child):
    """``script`` holds events, and tuples (how it ends or "hang", ChildProgress it is then)."""

    def __init__(self, script, clock, words=""):
        self.script = list(script)
        self.clock = clock
        self.words = words
        self.at = ChildProgress(NO_SESSION, True, 0)
        self.how = None
        self.closed = False

    def next_event(self, timeout_s):
        if self.script and isinstance(self.script[0], dict):
            return self.script.pop(0)
        if self.script:
            how, self.at = self.script[0]
            self.how = None if how == "hang" else how
        self.clock.now_s += timeout_s
        return None

    def progress(self):
        return self.at

    def ended(self):
        return self.how

    def last_stderr_line(self):
        return self.words

    def close(self):
        self.closed = True


READY = {"event": "ready", "versions": {"fake": "1"}}
END = {"event": "end"}


def opened(index, outputs=(0.5,)):
    return {"event": "opened", "index": index, "load_s": 0.1 * index, "first_s": 0.2,
            "provider": "P", "outputs": list(outputs)}


def rounds(indexes, candidate_s=1e-5, reference_s=1e-4, blocks=2):
    series = {str(index): {"candidate_s": [candidate_s] * blocks,
                           "before_s": [reference_s] * blocks, "after_s": [reference_s] * blocks,
                           "samples": pack_samples([10] * blocks), "sample_blocks": [1] * blocks}
              for index in indexes}
    return {"event": "rounds", "reference_s": [reference_s] * (blocks + 1), "series": series,
            "openings": 1}


def good(indexes, **changes):
    return [READY, opened(0), *map(opened, indexes), rounds(indexes, **changes), END]


def play(scripts, asked=None, cancelled=lambda: False, words=""):
    """Measures with one scripted child after another; returns result, requests and children."""
    clock, requests, children, waiting = Clock(), [], [], list(scripts)

    def start_child(runtime, request):
        requests.append(request)
        children.append(ScriptedChild(waiting.pop(0), clock, words))
        return children[-1]

    try:
        result = measure(asked or payload(), PATHS, start_child, clock, cancelled)
    finally:
        assert all(child.closed for child in children)
    assert not waiting
    return result, requests


def verdicts(result):
    return [(one.verdict, one.reasons) for one in result.measurements]


def test_a_good_child_makes_valid_measurements():
    result, requests = play([good([1, 2])])
    assert verdicts(result) == [("valid", []), ("valid", [])]
    assert result.quiet_level_s == 1e-4 and result.quiet_share == 1.0
    assert result.reference_blocks == 3 and result.environment == {"runtime": {"fake": "1"}}
    first = result.measurements[0]
    assert first.sha256 == "sha1" and first.blocks.candidate_s == [1e-5, 1e-5]
    assert (first.load_s, first.first_s, first.provider, first.outputs) == (0.1, 0.2, "P", [0.5])
    assert unpack_samples(first.samples) == [10, 10] and first.sample_blocks == [1, 1]
    assert requests[0].mode == "pairs" and requests[0].indexes == [0, 1, 2]
    assert requests[0].paths == ["/models/0", "/models/1", "/models/2"]


def test_a_crash_fails_its_candidate_only():
    result, requests = play([
        [READY, opened(0), ("signal 11", ChildProgress(1, True, 5))], good([2])])
    assert verdicts(result) == [("failed", ["crashed: signal 11"]), ("valid", [])]
    assert [one.indexes for one in requests] == [[0, 1, 2], [0, 2]]
    failed = result.measurements[0]
    assert failed.blocks.candidate_s == [] and failed.samples == pack_samples([])


def test_a_candidate_that_hangs_is_killed_after_its_limit():
    result, requests = play([[READY, opened(0), ("hang", ChildProgress(2, False, 7))], good([1])])
    assert verdicts(result) == [("valid", []), ("failed", ["timeout"])]
    assert requests[1].indexes == [0, 1]


def test_a_child_with_progress_does_not_hang():
    moves = [("hang", ChildProgress(1, False, 1))]

    class Moving(ScriptedChild):
        def next_event(self, timeout_s):
            if self.at.step < 500:
                self.clock.now_s += 1.0
                self.at = ChildProgress(1, False, self.at.step + 1)
                return None
            self.script = self.script if self.script != moves else good([1, 2])
            return ScriptedChild.next_event(self, timeout_s)

    clock = Clock()
    result = measure(payload(), PATHS, lambda runtime, request: Moving(moves, clock), clock)
    assert [one.verdict for one in result.measurements] == ["valid", "valid"]


def test_a_refused_candidate_leaves_the_child_alive():
    result, requests = play([[
        READY, opened(0), {"event": "refused", "index": 1, "reason": "unloadable: opset 99"},
        opened(2), rounds([2]), END]])
    assert verdicts(result) == [("failed", ["unloadable: opset 99"]), ("valid", [])]
    assert len(requests) == 1


def test_an_exception_in_the_rounds_fails_the_running_candidate():
    class Breaking(ScriptedChild):
        def progress(self):
            return ChildProgress(2, False, 9)

    clock = Clock()
    scripts = [[READY, opened(0), opened(1), opened(2),
                {"event": "broken", "reason": "crashed: RuntimeError: no"}], good([1])]
    result = measure(payload(), PATHS,
                     lambda runtime, request: Breaking(scripts.pop(0), clock), clock)
    assert verdicts(result) == [("valid", []), ("failed", ["crashed: RuntimeError: no"])]


@pytest.mark.parametrize("script, text", [
    ([READY, ("signal 6", ChildProgress(0, True, 1))], "crashed: signal 6"),
    ([READY, {"event": "refused", "index": 0, "reason": "unloadable: empty"}], "unloadable: empty"),
    ([READY, ("hang", ChildProgress(0, True, 1))], "timeout"),
])
def test_a_reference_that_fails_alone_fails_the_job(script, text):
    with pytest.raises(JobFailed, match=text) as caught:
        play([script])
    assert caught.value.reason == "reference"


def test_a_candidate_that_kills_the_reference_is_found():
    late = ("signal 11", ChildProgress(0, False, 90))
    result, requests = play([
        [READY, opened(0), opened(1), opened(2), late], good([1]), [READY, opened(0), late]])
    assert verdicts(result) == [
        ("valid", []), ("failed", ["crashed: signal 11 of the reference beside it"])]
    assert [one.indexes for one in requests] == [[0, 1, 2], [0, 1], [0, 2]]


def test_a_runtime_that_does_not_start_fails_the_job_with_its_last_stderr_line():
    with pytest.raises(JobFailed, match="exit code 1 ImportError: no") as caught:
        play([[("exit code 1", ChildProgress(NO_SESSION, True, 0))]], words="ImportError: no")
    assert caught.value.reason == "runtime"
    with pytest.raises(JobFailed, match="pip install"):
        play([[{"event": "broken", "reason": "pip install it"}]])


def test_when_every_candidate_fails_there_is_no_level():
    result, _ = play([[READY, ("signal 4", ChildProgress(1, True, 1))]], payload(1))
    assert verdicts(result) == [("failed", ["crashed: signal 4"])]
    assert result.quiet_level_s is None and result.reference_blocks == 0


def test_processes_repeat_the_set_and_pool_the_blocks():
    result, requests = play([good([1, 2]), good([1, 2], blocks=3)], payload(processes=2))
    assert len(requests) == 2 and requests[0].plan.min_blocks == 1
    assert len(result.measurements[0].blocks.candidate_s) == 5
    assert result.reference_blocks == 7


def test_memory_takes_one_more_child_for_each_candidate():
    memory = [[READY, opened(index), {"event": "memory", "index": index, "baseline_bytes": 50,
                                      "peak_bytes": 60 + index}, END] for index in (1, 2)]
    result, requests = play([good([1, 2]), *memory], payload(memory=True))
    assert [(one.mode, one.indexes) for one in requests[1:]] == [
        ("memory", [1]), ("memory", [2])]
    assert [one.memory_bytes for one in result.measurements] == [61, 62]
    assert result.measurements[0].memory_baseline_bytes == 50


def test_without_a_memory_meter_memory_is_unknown():
    result, _ = play([good([1]), [READY, END]], payload(1, memory=True))
    assert result.measurements[0].memory_bytes is None
    assert result.measurements[0].verdict == "valid"


def test_values_that_are_not_finite_fail_the_candidate():
    result, _ = play([[READY, opened(0), opened(1, [0.5, None]), rounds([1]), END]], payload(1))
    assert verdicts(result) == [
        ("failed", ["not finite: the value 1 of the outputs"])]
    assert result.measurements[0].outputs == []


def test_too_few_quiet_blocks_are_busy():
    result, _ = play([good([1], reference_s=1.5e-4)], payload(1, quiet_level_s=1e-4))
    assert verdicts(result) == [("invalid", ["busy"])]
    assert result.quiet_level_s == pytest.approx(1.5e-4)


def test_no_candidates_learn_the_level():
    result, _ = play([[READY, opened(0), rounds([]), END]], payload(0))
    assert result.quiet_level_s == 1e-4 and result.measurements == []
    assert result.quiet_share == 1.0


def test_cancelling_kills_the_child():
    with pytest.raises(JobCancelled):
        play([[READY]], cancelled=lambda: True)


def test_an_invalid_payload_is_refused():
    with pytest.raises(ProtocolError, match="MeasurePayload.plan is missing"):
        measure({"reference": {"sha256": "a", "size_bytes": 1}, "candidates": [],
                 "runtime": "fake", "options": {}}, {}, lambda *_: ScriptedChild([], None), Clock())


def test_the_limit_grows_with_plan_and_file():
    assert step_limit_s(0.1, 0) == 5.0
    assert step_limit_s(10.0, 100000000) == 40.0


def test_doubts_about_the_window_are_warnings_of_all_its_candidates():
    event = dict(rounds([1, 2]), unsteady=[2], conditions={"wall_s": 1.0, "others_cores": 0.8})
    result, _ = play([[READY, opened(0), opened(1), opened(2), event, END]])
    first, second = [one.warnings for one in result.measurements]
    assert [one.partition(":")[0] for one in first] == ["busy machine"]
    assert [one.partition(":")[0] for one in second] == ["busy machine", "no steady state"]
    assert {one.verdict for one in result.measurements} == {"valid"}


def test_a_plan_that_refuses_doubt_refuses_it():
    event = dict(rounds([1]), conditions={"wall_s": 1.0, "others_cores": 0.8})
    result, _ = play([[READY, opened(0), opened(1), event, END]],
                     payload(1, refuse_doubt=True))
    (one,) = result.measurements
    assert one.verdict == "invalid" and one.reasons == one.warnings


def test_another_provider_than_the_requested_one_makes_it_invalid():
    asked = payload(1, options={"providers": ["CUDAExecutionProvider"]})
    result, _ = play([good([1])], asked)
    assert "P ran it" in result.measurements[0].reasons[0]
    assert result.measurements[0].verdict == "invalid"


def test_the_time_on_the_device_is_that_of_the_children():
    asked = payload(1)
    result, _ = play([[READY, opened(0), ("hang", ChildProgress(1, True, 1))]], asked)
    assert result.device_s == pytest.approx(step_limit_s(2.0, 10), abs=0.5)


def nodes(index):
    return {"event": "nodes", "index": index, "problem": "", "call_s": 1e-4,
            "nodes": [{"name": "n", "op": "Conv", "provider": "P", "time_s": 1e-4}]}


def test_nodes_are_timed_at_last_in_a_child_of_their_own():
    result, requests = play([good([1, 2]), [READY, nodes(0), nodes(1), nodes(2), END]],
                            payload(nodes=True))
    assert [one.mode for one in requests] == ["pairs", "nodes"]
    assert requests[1].indexes == [0, 1, 2]
    assert verdicts(result) == [("valid", []), ("valid", [])]
    for one in (result.reference_nodes, *[one.nodes for one in result.measurements]):
        assert [node.op for node in one.nodes] == ["Conv"] and one.problem == ""


@pytest.mark.parametrize("ending, why", [
    (("signal 11", ChildProgress(1, False, 3)), "not profiled: crashed: signal 11"),
    (("hang", ChildProgress(1, False, 3)), "not profiled: timeout"),
    (("exit code 1", ChildProgress(NO_SESSION, False, 0)),
     "not profiled: The runtime 'fake' does not start: exit code 1")])
def test_nodes_that_cannot_be_timed_do_not_change_the_measurement(ending, why):
    result, _ = play([good([1, 2]), [READY, nodes(0), ending]], payload(nodes=True))
    assert verdicts(result) == [("valid", []), ("valid", [])]
    assert result.reference_nodes.problem == ""
    assert [one.nodes.problem for one in result.measurements] == [why, why]


def test_nodes_that_ran_elsewhere_are_a_doubt():
    asked = payload(1, nodes=True, options={"providers": ["P"]})
    fallen = nodes(1)
    fallen["nodes"] = fallen["nodes"] + [dict(fallen["nodes"][0], provider="CPU", op="Resize")]
    result, _ = play([good([1]), [READY, nodes(0), fallen, END]], asked)
    (one,) = result.measurements
    assert one.verdict == "valid" and one.warnings == [
        "provider fallback: P was asked for, 1 of 2 nodes ran on CPU (Resize)"]
