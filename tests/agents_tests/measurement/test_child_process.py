"""Real child processes with the fake runtime: whatever a model does, the agent lives."""

import os
import signal
import time
from typing import Any

import pytest

from agents.capabilities import start_runtime
from agents.child import progress
from agents.child.request import ChildRequest
from agents.measurement import child_process as children
from agents.measurement import runner
from agents.measurement.child_process import ProcessChild
from agents.measurement.runner import measure
from agents.measurement.supervision import JobCancelled, JobFailed
from agents.protocol import MeasurePlan, decode
from tests.agents_tests.fakes import fake_model, payload_of, written

REFERENCE = fake_model(latency_s=1e-4, outputs=[0.25, 0.75])
GOOD = fake_model(latency_s=2e-5, outputs=[0.2, 0.8])


def measured(tmp_path, contents, **changes):
    plan = {key: changes.pop(key) for key in ("memory", "processes", "max_s") if key in changes}
    payload = dict(payload_of(contents, **plan), **changes)
    return measure(payload, written(tmp_path, contents), ProcessChild, time.monotonic)


def verdicts(result):
    return [(one.verdict, one.reasons) for one in result.measurements]


def test_a_good_candidate(tmp_path):
    result = measured(tmp_path, [REFERENCE, GOOD])
    assert verdicts(result) == [("valid", [])]
    one = result.measurements[0]
    assert one.outputs == [0.2, 0.8] and one.provider == "FakeExecutionProvider"
    assert one.load_s == pytest.approx(0.002)
    assert result.quiet_level_s == pytest.approx(1e-4, rel=0.01)
    assert one.blocks.candidate_s[0] == pytest.approx(2e-5, rel=0.01)
    assert result.environment["runtime"]["fake"] == "1"


@pytest.mark.parametrize("behaviour, reason", [
    ({"crash": {"at": "open", "how": "segv"}}, "crashed: signal {:d}".format(signal.SIGSEGV)),
    ({"crash": {"at": 1, "how": "abort"}}, "crashed: signal {:d}".format(signal.SIGABRT)),
    ({"crash": {"at": 50, "how": "segv"}}, "crashed: signal {:d}".format(signal.SIGSEGV)),
    ({"crash": {"at": 50, "how": "exit"}}, "crashed: exit code 3"),
    ({"crash": {"at": "open", "how": "refuse"}}, "unloadable: this fake model refuses"),
    ({"crash": {"at": 50, "how": "refuse"}}, "crashed: ModelRefused: this fake model refuses"),
])
def test_a_crash_fails_its_candidate_only(tmp_path, behaviour, reason):
    bad = fake_model(latency_s=1e-5, **behaviour)
    result = measured(tmp_path, [REFERENCE, bad, GOOD])
    assert verdicts(result) == [("failed", [reason]), ("valid", [])]


@pytest.mark.parametrize("at", ["open", 30])
def test_a_candidate_that_hangs_is_killed(tmp_path, monkeypatch, at):
    monkeypatch.setattr(runner, "STEP_LIMIT_S", 0.6)
    monkeypatch.setattr(runner, "STEP_LIMIT_FACTOR", 0.0)
    result = measured(tmp_path, [REFERENCE, GOOD, fake_model(hang={"at": at})])
    assert verdicts(result) == [("valid", []), ("failed", ["timeout"])]


def test_a_reference_that_crashes_fails_the_job(tmp_path):
    with pytest.raises(JobFailed, match="crashed: exit code 3") as caught:
        measured(tmp_path, [fake_model(crash={"at": "open", "how": "exit"}), GOOD])
    assert caught.value.reason == "reference"


def test_an_unknown_runtime_fails_the_job_with_the_known_ones(tmp_path):
    with pytest.raises(JobFailed, match="'tensorflow'.*fake, onnxruntime") as caught:
        measured(tmp_path, [REFERENCE, GOOD], runtime="tensorflow")
    assert caught.value.reason == "runtime"


def test_a_machine_that_stays_busy_has_no_valid_measurement(tmp_path):
    busy = fake_model(latency_s=1e-4, busy={"share": 1.0, "period_s": 0.1, "factor": 1.5})
    result = measured(tmp_path, [busy, GOOD], quiet_level_s=1e-4)
    assert verdicts(result) == [("invalid", ["busy"])]


def test_a_periodically_busy_machine_gives_the_quiet_ratio(tmp_path):
    busy = fake_model(latency_s=1e-4, busy={"share": 0.5, "period_s": 0.05, "factor": 1.5})
    result = measured(tmp_path, [busy, fake_model(latency_s=2e-5, slowed_by=2.0)], max_s=0.5)
    assert verdicts(result) == [("valid", [])]
    assert 0.2 < result.quiet_share < 0.8
    assert result.quiet_level_s == pytest.approx(1e-4, rel=0.01)


def test_memory_is_the_peak_of_a_process_of_its_own(tmp_path):
    large = fake_model(memory_bytes=60000000)
    result = measured(tmp_path, [REFERENCE, GOOD, large], memory=True)
    small_one, large_one = result.measurements
    assert large_one.memory_bytes - small_one.memory_bytes > 50000000
    assert small_one.memory_bytes >= small_one.memory_baseline_bytes > 0


def test_cancelling_ends_a_hanging_child(tmp_path):
    contents = [REFERENCE, fake_model(hang={"at": "open"})]
    with pytest.raises(JobCancelled):
        measure(payload_of(contents), written(tmp_path, contents), ProcessChild, time.monotonic,
                cancelled=iter([False, False, False, True]).__next__)


def test_a_child_ends_when_its_stdin_closes(tmp_path):
    paths = written(tmp_path, [fake_model(hang={"at": "open"})])
    child = ProcessChild("fake", ChildRequest(
        "pairs", [0], list(paths.values()),
        plan=decode(MeasurePlan, payload_of([REFERENCE])["plan"])))
    while child.next_event(1.0) is None:
        assert child.ended() is None
    process: Any = child._process
    process.stdin.close()
    assert process.wait(30) == 0
    child.close()


def test_closing_twice_is_allowed_and_progress_stays_readable():
    child = ProcessChild("fake", ChildRequest("versions"))
    child.close()
    child.close()
    assert child.progress().session == -1
    assert child.last_stderr_line() == ""


def test_a_child_reports_that_the_device_is_idle(tmp_path):
    paths = written(tmp_path, [REFERENCE])
    plan = dict(payload_of([REFERENCE])["plan"], energy_s=10.0, idle_s=5.0)
    child = ProcessChild("fake", ChildRequest(
        "energy", [0], list(paths.values()), plan=decode(MeasurePlan, plan)))
    try:
        while not child.progress().resting:
            child.next_event(0.05)
            assert child.ended() is None
        assert child.progress().session == 0 and not child.progress().opening
    finally:
        child.close()


def test_versions_are_asked_of_the_child():
    assert start_runtime("fake", ProcessChild).versions["fake"] == "1"
    assert "no runtime 'nothing'" in start_runtime("nothing", ProcessChild).problem


def test_endless_output_blocks_nothing_and_is_not_kept(tmp_path):
    chatterer = tmp_path / "python"
    chatterer.write_text("#!/bin/sh\nwhile :; do echo a library complains >&2; done\n")
    chatterer.chmod(0o700)
    child = ProcessChild("fake", ChildRequest("versions"), str(chatterer))
    try:
        for _ in range(200):
            assert child.next_event(0.2) is None
        assert child.last_stderr_line() and len(child._tail) <= children.STDERR_TAIL_BYTES
        assert child.ended() is None
    finally:
        child.close()


def test_a_child_shares_an_unnamed_file(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "memfd_create", raising=False)  # as before Python 3.8
    monkeypatch.setattr(progress, "_FOLDERS", ("/nonexistent", str(tmp_path)))
    result = measured(tmp_path, [REFERENCE, GOOD])
    assert verdicts(result) == [("valid", [])]
    assert not [name for name in os.listdir(str(tmp_path)) if name.startswith("fleetfront")]
    monkeypatch.setattr(progress, "_FOLDERS", ("/nonexistent",))
    with pytest.raises(OSError):
        progress.create_shared_file()
