"""A child started ahead serves one job, and only while it is of use."""

import os
import select
import signal
import sys

import pytest

from agents.child.request import ChildRequest
from agents.measurement.spare_child import KEPT_S, SpareChild


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def spare(clock):
    made = SpareChild(sys.executable, clock)
    yield made
    made.close()


def answer(child):
    try:
        while True:
            event = child.next_event(20.0)
            if event is not None:
                return event
    finally:
        child.close()


def pid(child):
    return child._process.pid


def test_a_child_that_waits_serves_the_next_job(spare):
    answer(spare.start("fake", ChildRequest("versions")))
    spare.ensure_waiting()
    waiting = pid(spare._child)
    child = spare.start("fake", ChildRequest("versions"))
    assert pid(child) == waiting
    assert answer(child)["event"] == "ready"


def test_it_has_imported_its_runtime_before_there_is_a_job(spare, monkeypatch):
    pytest.importorskip("onnxruntime")
    answer(spare.start("onnxruntime", ChildRequest("versions")))
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    spare.ensure_waiting()
    stream, told = spare._child._stream("stderr"), b""
    while b"| onnxruntime\n" not in told:
        assert select.select([stream], [], [], 20.0)[0], "it waits for a request first"
        told += os.read(stream.fileno(), 1 << 16)


def test_each_job_has_a_child_of_its_own(spare):
    first = spare.start("fake", ChildRequest("versions"))
    second = spare.start("fake", ChildRequest("versions"))
    assert pid(first) != pid(second)
    assert answer(first) == answer(second)


def test_before_the_first_job_nothing_waits(spare):
    spare.ensure_waiting()
    assert spare._child is None


def test_another_runtime_gets_another_child_and_the_waiting_one_ends(spare):
    answer(spare.start("fake", ChildRequest("versions")))
    spare.ensure_waiting()
    waiting = spare._child
    refused = answer(spare.start("nothing", ChildRequest("versions")))
    assert "no runtime 'nothing'" in refused["reason"]
    assert waiting.has_ended()


def test_a_waiting_child_that_died_is_replaced(spare):
    answer(spare.start("fake", ChildRequest("versions")))
    spare.ensure_waiting()
    dead = spare._child
    os.kill(pid(dead), signal.SIGKILL)
    dead._process.wait()
    assert answer(spare.start("fake", ChildRequest("versions")))["event"] == "ready"


def test_without_jobs_the_waiting_child_is_ended(spare, clock):
    answer(spare.start("fake", ChildRequest("versions")))
    spare.ensure_waiting()
    waiting = spare._child
    clock.now_s = KEPT_S + 1
    spare.ensure_waiting()
    assert waiting.has_ended() and spare._child is None
    spare.ensure_waiting()
    assert spare._child is None


def test_a_program_that_cannot_be_started_fails_the_job(spare):
    answer(spare.start("fake", ChildRequest("versions")))
    spare._python = "/nonexistent/python"
    spare.ensure_waiting()
    with pytest.raises(OSError, match="nonexistent"):
        spare.start("fake", ChildRequest("versions"))
