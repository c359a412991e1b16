"""One lease: its two deadlines, what the heartbeat tells meanwhile, and a device in trouble."""

import ast
import os
import time

import pytest

from agents.agent import Agent
from agents.coordinator.http import Backoff
from agents.coordinator.settings import AgentSettings
from agents.measurement.child_process import ProcessChild
from agents.platform.sysfs import SystemTree
from tests.agents_tests.fakes import ROOT, WAIT_S, Coordinator, fake_model
from tests.agents_tests.test_agent import CAPABLE

REFERENCE = fake_model(latency_s=1e-4, outputs=[0.5] * 100)
GOOD = fake_model(latency_s=2e-5)
HANGING = fake_model(hang={"at": "open"})


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def run(coordinator, tmp_path, clock, start_child=ProcessChild):
    """One job; its envelope."""
    before = set(coordinator.results)
    settings = AgentSettings(coordinator.url, "desk", str(tmp_path), "token-1", once=True,
                        runtimes=("fake",))
    Agent(settings, lambda: CAPABLE, start_child, SystemTree(str(tmp_path)), clock,
          lambda delay_s: None, Backoff(0.001, 0.01)).run()
    path, = set(coordinator.results) - before
    return coordinator.results[path]


def failure(envelope):
    assert envelope["state"] == "failed"
    return envelope["result"]["reason"], envelope["result"]["message"]


def test_a_transfer_that_takes_too_long_reports_its_progress(coordinator, tmp_path):
    clock = Clock()

    def slow():
        coordinator.cut_after = 10
        clock.now_s += 30.0

    coordinator.on_artifact = slow
    coordinator.add([REFERENCE, GOOD], transfer_s=50.0, deadline_s=1000.0)
    reason, message = failure(run(coordinator, tmp_path, clock))
    total = len(REFERENCE) + len(GOOD)
    assert reason == "transfer_timeout"
    assert "after 50 s: 20 of {} bytes have arrived".format(total) in message
    assert "has 20 of its {} bytes".format(len(REFERENCE)) in message
    assert coordinator.leases == []


def test_a_transfer_is_stopped_in_the_middle_of_a_file(coordinator, tmp_path):
    clock = Clock()
    coordinator.on_artifact = lambda: setattr(clock, "now_s", clock.now_s + 60.0)
    coordinator.add([REFERENCE, GOOD], transfer_s=50.0)
    reason, message = failure(run(coordinator, tmp_path, clock))
    assert reason == "transfer_timeout" and REFERENCE != GOOD
    assert sum("artifacts" in path for path in coordinator.paths()) == 1
    # The link is good for the next request all the same.
    coordinator.on_artifact = lambda: None
    coordinator.add([REFERENCE, GOOD], job=2, transfer_s=50.0)
    assert run(coordinator, tmp_path, clock)["state"] == "done"


@pytest.mark.parametrize("transfer_s, outcome", [(50.0, "done"), (None, "deadline"),
                                                 (0.0, "deadline")])
def test_device_time_counts_from_the_end_of_the_transfer(
        coordinator, tmp_path, transfer_s, outcome):
    clock = Clock()
    coordinator.on_artifact = lambda: setattr(clock, "now_s", clock.now_s + 20.0)
    coordinator.add([REFERENCE, GOOD], transfer_s=transfer_s, deadline_s=30.0)
    envelope = run(coordinator, tmp_path, clock)
    assert (envelope["state"] if outcome == "done" else failure(envelope)[0]) == outcome


def test_device_time_has_an_end_of_its_own(coordinator, tmp_path):
    clock = Clock()

    def late(runtime, request):
        clock.now_s += 31.0
        return ProcessChild(runtime, request)

    coordinator.add([REFERENCE, HANGING], transfer_s=50.0, deadline_s=30.0, max_s=100.0)
    assert failure(run(coordinator, tmp_path, clock, late)) == (
        "deadline", "The job took longer than its 30 s.")


def test_heartbeats_report_the_phase(coordinator, tmp_path):
    def phases():
        return {beat["phase"] for beat in coordinator.heartbeats}

    def measuring(runtime, request):
        coordinator.wait_for(lambda: "device" in phases())
        return ProcessChild(runtime, request)

    coordinator.on_artifact = lambda: coordinator.wait_for(lambda: "transfer" in phases())
    coordinator.add([REFERENCE, GOOD], ttl_s=0.04)
    assert run(coordinator, tmp_path, time.monotonic, measuring)["state"] == "done"
    assert all(0.0 <= beat["progress"] <= 1.0 for beat in coordinator.heartbeats)


# -- a device in trouble --------------------------------------------------------------------


def forbid_growth():
    """Every write to a file fails, as on a full disk."""
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def words_for(coordinator, tmp_path):
    return ["-m", "agents", "--coordinator", coordinator.url, "--token", "token-1", "--name",
            "desk", "--runtime", "fake", "--spool", str(tmp_path / "spool"), "--once"]


def test_a_full_disk_is_a_reason_that_arrives(coordinator, tmp_path, started):
    words = words_for(coordinator, tmp_path)
    coordinator.add([REFERENCE])
    assert started(*words).wait(WAIT_S) == 0
    # The disk is full, for files and for the result that reports it.
    coordinator.add([REFERENCE, GOOD], job=2)
    process = started(*words, preexec_fn=forbid_growth)
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    assert failure(coordinator.results["/v1/results/2/1?fence=1"])[0] == "disk"
    # Everything is here, but the child has no room to say where it is.
    coordinator.add([REFERENCE], job=3)
    process = started(*words, preexec_fn=forbid_growth)
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    assert failure(coordinator.results["/v1/results/3/1?fence=1"])[0] == "disk"


def test_a_full_disk_spends_no_token(coordinator, tmp_path, started):
    process = started(*words_for(coordinator, tmp_path), preexec_fn=forbid_growth)
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1 and b"The token is not used up" in output
    assert coordinator.tokens == {"token-1", "token-2"}


def test_a_missing_interpreter_fails_the_job_only(coordinator, tmp_path):
    def none(runtime, request):
        return ProcessChild(runtime, request, "/nonexistent/python")

    coordinator.add([REFERENCE])
    reason, message = failure(run(coordinator, tmp_path, time.monotonic, none))
    assert reason == "runtime" and "/nonexistent/python" in message


def test_a_wall_clock_that_jumps_changes_nothing(coordinator, tmp_path, monkeypatch):
    jumps = iter(range(10 ** 9))

    def jumping():
        return 1.7e9 + 1e7 * (-1) ** next(jumps)

    monkeypatch.setattr(time, "time", jumping)
    coordinator.add([REFERENCE, GOOD], transfer_s=20.0, deadline_s=20.0)
    assert run(coordinator, tmp_path, time.monotonic)["state"] == "done"


def test_no_module_uses_the_time_of_day():
    """Whatever is timed is timed on a monotonic clock."""
    found = []
    for folder, _, names in os.walk(os.path.join(ROOT, "agents")):
        for name in sorted(names):
            if not name.endswith(".py"):
                continue
            with open(os.path.join(folder, name), encoding="utf-8") as stream:
                tree = ast.parse(stream.read())
            for node in ast.walk(tree):
                imported = isinstance(node, (ast.Import, ast.ImportFrom)) and (
                    {alias.name for alias in node.names} | {getattr(node, "module", None)})
                if imported and "datetime" in imported or isinstance(
                        node, ast.Attribute) and node.attr in ("time", "time_ns", "localtime") and (
                        isinstance(node.value, ast.Name) and node.value.id == "time"):
                    found.append((name, node.lineno))
    assert found == []


def test_a_restarted_coordinator_gets_the_result(tmp_path):
    first = Coordinator()
    successor = []

    def restarting(runtime, request):
        first.close()
        first.drop = 1000  # connections that are still open end at the next request
        second = Coordinator(port=first.port)
        second.secret, second.artifacts = first.secret, first.artifacts
        successor.append(second)
        return ProcessChild(runtime, request)

    first.add([REFERENCE, GOOD], job=4, fence=6)
    settings = AgentSettings(first.url, "desk", str(tmp_path), "token-1", once=True,
                             runtimes=("fake",))
    Agent(settings, lambda: CAPABLE, restarting, SystemTree(str(tmp_path)),
          backoff=Backoff(0.001, 0.01)).run()
    successor[0].close()
    assert list(successor[0].results) == ["/v1/results/4/1?fence=6"]
    assert successor[0].results["/v1/results/4/1?fence=6"]["state"] == "done"
