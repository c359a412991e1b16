import os
import stat

import pytest

from agents.coordinator.http import CoordinatorUnavailable, HttpClient, RequestRefused
from agents.coordinator.spool import ResultSpool, Secret, read_secret, write_secret
from agents.protocol import Lease, ResultEnvelope

LEASE = Lease(12, "measure", 2, 7, 10.0, 60.0, {})
SMALL = ResultEnvelope("failed", {"reason": "busy", "message": "m"})
LARGE = ResultEnvelope("done", {"text": "x" * 5000})


@pytest.fixture
def link(coordinator):
    coordinator.secret = "s"
    link = HttpClient(coordinator.url, "s")
    yield link
    link.close()


def test_a_result_waits_until_it_is_accepted(tmp_path, coordinator, link):
    ResultSpool(str(tmp_path), "s").put(LEASE, SMALL)
    spool = ResultSpool(str(tmp_path), "s")
    assert spool.waiting() == [(12, 2, 7)]
    coordinator.statuses = [503]
    with pytest.raises(CoordinatorUnavailable):
        spool.send_all(link)
    assert spool.waiting() == [(12, 2, 7)]
    assert spool.send_all(link) == []
    assert spool.waiting() == []
    assert coordinator.results == {"/v1/results/12/2?fence=7": {
        "state": "failed", "result": {"reason": "busy", "message": "m"}}}


def test_a_large_result_is_compressed(tmp_path, coordinator, link):
    spool = ResultSpool(str(tmp_path), "s")
    spool.put(LEASE, LARGE)
    spool.send_all(link)
    headers = coordinator.requests[0][2]
    assert headers["Content-Encoding"] == "gzip" and int(headers["Content-Length"]) < 500
    assert coordinator.results["/v1/results/12/2?fence=7"]["result"] == {"text": "x" * 5000}


def test_a_stale_result_is_dropped_and_the_next_one_goes(tmp_path, coordinator, link):
    spool = ResultSpool(str(tmp_path), "s")
    spool.put(LEASE, SMALL)
    spool.put(LEASE._replace(job=13), SMALL)
    coordinator.statuses = [409]
    assert spool.send_all(link) == ["result of job 12: scripted"]
    assert spool.waiting() == [] and list(coordinator.results) == ["/v1/results/13/2?fence=7"]


def test_an_unknown_secret_keeps_the_results(tmp_path, coordinator, link):
    spool = ResultSpool(str(tmp_path), "s")
    spool.put(LEASE, SMALL)
    coordinator.secret = "another"
    with pytest.raises(RequestRefused):
        spool.send_all(link)
    assert spool.waiting() == [(12, 2, 7)]


def test_results_of_another_enrolment_are_not_sent(tmp_path):
    ResultSpool(str(tmp_path), "one").put(LEASE, SMALL)
    assert ResultSpool(str(tmp_path), "other").waiting() == []


def test_an_unfinished_result_is_not_sent(tmp_path):
    spool = ResultSpool(str(tmp_path), "s")
    folder = os.path.join(str(tmp_path), "results")
    folder = os.path.join(folder, os.listdir(folder)[0])
    for name in ("1-1-1.json.new", "x-1-1.json", "1-1.json"):
        with open(os.path.join(folder, name), "w") as stream:
            stream.write("{")
    assert spool.waiting() == []


def test_only_the_owner_can_read_the_secret(tmp_path):
    assert read_secret(str(tmp_path)) is None
    secret = Secret("http://x:1", "desk", "desk", "hush")
    write_secret(str(tmp_path), secret)
    assert read_secret(str(tmp_path)) == secret
    assert stat.S_IMODE(os.stat(str(tmp_path / "agent.json")).st_mode) == 0o600
    (tmp_path / "agent.json").write_text("{")
    assert read_secret(str(tmp_path)) is None


def test_a_secret_without_fingerprint_stays_valid(tmp_path):
    (tmp_path / "agent.json").write_text(
        '{"agent":"desk","name":"desk","secret":"hush","url":"http://x:1"}')
    assert read_secret(str(tmp_path)) == Secret("http://x:1", "desk", "desk", "hush", "")


def damage(path, how):
    if how == "a folder":
        os.unlink(path)
        os.mkdir(path)
        return
    with open(path, "rb") as stream:
        whole = stream.read()
    with open(path, "wb") as stream:
        stream.write({"cut": whole[:-9], "zeros": b"\0" * len(whole), "empty": b"",
                      "of something else": b"{}"}[how])


@pytest.mark.parametrize("how", ["cut", "zeros", "empty", "of something else", "a folder"])
def test_one_damaged_result_does_not_block_the_others(tmp_path, coordinator, link, caplog, how):
    spool = ResultSpool(str(tmp_path), "s")
    for job in (1, 2, 3):
        spool.put(LEASE._replace(job=job), SMALL)
    folder = os.path.dirname(spool._path((1, 2, 7)))
    damage(spool._path((2, 2, 7)), how)
    assert spool.send_all(link) == []
    assert sorted(coordinator.results) == ["/v1/results/1/2?fence=7", "/v1/results/3/2?fence=7"]
    assert spool.waiting() == [] == ResultSpool(str(tmp_path), "s").waiting()
    assert os.listdir(folder) == ["000000000002-2-7.json.damaged"]
    assert "the result of job 2 is damaged" in caplog.text and "was renamed to" in caplog.text


def test_a_read_only_file_system_does_not_stop_the_agent(
        tmp_path, coordinator, link, monkeypatch, caplog):
    spool = ResultSpool(str(tmp_path), "s")
    spool.put(LEASE, SMALL)

    def read_only(path):
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(os, "unlink", read_only)
    for _ in range(2):
        assert spool.send_all(link) == []
    assert len(coordinator.requests) == 1 and "cannot be removed" in caplog.text
    # After a reboot it is sent once more, which changes nothing.
    assert ResultSpool(str(tmp_path), "s").waiting() == [(12, 2, 7)]


def test_a_damaged_secret_is_logged(tmp_path, caplog):
    (tmp_path / "agent.json").write_text("{")
    assert read_secret(str(tmp_path)) is None
    assert "enrol the device again" in caplog.text
