import socket
import threading

import pytest

from agents.coordinator.http import Backoff, CoordinatorUnavailable, HttpClient, RequestRefused


def enrolled(coordinator):
    coordinator.secret = "s"
    return HttpClient(coordinator.url, "s")


def test_a_connection_is_reused(coordinator):
    link = enrolled(coordinator)
    for _ in range(3):
        assert link.request("POST", "/v1/heartbeat", b"{}").status == 200
    ports = {dict(headers).get("Host") for _, _, headers in coordinator.requests}
    assert len(coordinator.requests) == 3 and len(ports) == 1
    link.close()


def test_a_closed_idle_connection_is_reopened(coordinator):
    link = enrolled(coordinator)
    link.request("POST", "/v1/heartbeat", b"{}")
    coordinator.drop = 1
    assert link.request("POST", "/v1/heartbeat", b"{}").status == 200
    link.close()


def test_a_coordinator_that_closes_at_once_is_unavailable(coordinator):
    coordinator.drop = 1
    with pytest.raises(CoordinatorUnavailable):
        enrolled(coordinator).request("POST", "/v1/heartbeat", b"{}")


@pytest.mark.parametrize("answer", [
    b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"agent": "a', b"HTTP/1.1 200 OK\r\nContent-Le",
    b"HTTP/1.1 20"])
def test_a_truncated_answer_is_an_error(answer):
    """http.client gives what has come, and is content."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)

    def serve():
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(answer)
        connection.close()

    other = threading.Thread(target=serve)
    other.start()
    link = HttpClient("http://127.0.0.1:{}".format(listener.getsockname()[1]))
    with pytest.raises(CoordinatorUnavailable):
        link.request("POST", "/v1/agents", b"{}")
    other.join()
    listener.close()


def test_an_absent_coordinator_is_a_connection_error():
    with pytest.raises(CoordinatorUnavailable):
        HttpClient("http://127.0.0.1:1").request("GET", "/")


@pytest.mark.parametrize("status, kind", [
    (500, CoordinatorUnavailable), (503, CoordinatorUnavailable), (429, CoordinatorUnavailable),
    (400, RequestRefused), (409, RequestRefused)])
def test_statuses_are_distinguished(coordinator, status, kind):
    coordinator.statuses = [status]
    link = enrolled(coordinator)
    with pytest.raises(kind, match="scripted"):
        link.request("POST", "/v1/heartbeat", b"{}")
    assert link.request("POST", "/v1/heartbeat", b"{}").status == 200
    link.close()


def test_after_abort_every_request_fails(coordinator):
    link = enrolled(coordinator)
    link.abort()
    with pytest.raises(CoordinatorUnavailable, match="shutting down"):
        link.request("POST", "/v1/heartbeat", b"{}")
    assert coordinator.requests == []


@pytest.mark.parametrize("url", ["localhost:80", "ftp://x", "", "http://"])
def test_an_invalid_url_is_refused(url):
    with pytest.raises(ValueError, match="--coordinator"):
        HttpClient(url)


def test_delays_double_up_to_a_bound_and_are_jittered():
    backoff = Backoff(1.0, 5.0, draw=lambda: 1.0)
    assert [backoff.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next_s() == 1.0
    assert Backoff(1.0, 5.0, draw=lambda: 0.0).next_s() == 0.5
