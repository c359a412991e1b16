"""The coordinator as a process: lock, address, builders, crashes."""

import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from searcher.client.http import CoordinatorClient, connect
from searcher.dispatch.queue import LeaseRules
from searcher.ledger.read_only import open_ledger
from searcher.ledger.tables import spans
from tests.searcher_tests.dispatch.laboratory import (
    SPEC,
    build_payload,
    measure_payload,
    measure_result,
)

PATIENCE_S = 60.0
REPOSITORY = Path(__file__).parents[3]
FLEETFRONT = str(Path(sys.executable).with_name("fleetfront"))

BUILDER = """
import argparse, hashlib, json, os, sys, time
from pathlib import Path
from searcher.client.http import CoordinatorClient
from searcher.workers.parent_death import die_with_parent

secret = sys.stdin.readline().strip()
parser = argparse.ArgumentParser()
for name in ("--url", "--dir", "--parent-pid"):
    parser.add_argument(name)
options = parser.parse_args()
die_with_parent(int(options.parent_pid))
client = CoordinatorClient(options.url, secret)
while True:
    lease = client.lease(20.0)
    if lease is None:
        continue
    rank = lease.payload["recipe"][0]["rank"]
    if rank == 66:
        os.kill(os.getpid(), 9)
    if rank == 77:
        open(Path(options.dir) / "hanging", "w").write(str(os.getpid()))
        time.sleep(1000)
    content = json.dumps(lease.payload).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    (Path(options.dir) / "artifacts" / sha256).write_bytes(content)
    client.put_done(lease, {
        "build_key": sha256[:8], "sha256": sha256, "file_bytes": len(content), "graph_key": "g",
        "probe_outputs": [1.0], "report": {"parameters": 1}, "evaluation": None,
        "built_steps": 1, "reused_steps": 0})
"""


class Server:
    """A coordinator process on ``folder``, ready to serve."""

    own_builder = True

    def __init__(self, folder: Path, *arguments: str) -> None:
        script = folder.parent / "builder.py"
        script.write_text(BUILDER)
        words = [sys.executable, str(script)] if self.own_builder else []
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "searcher.api.server", "--dir", str(folder),
             "--parent-pid", str(os.getpid()),
             *(part for word in words for part in ("--builder-command", word)), *arguments],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        said = []
        for line in self.process.stderr or ():
            said.append(line)
            if "startup complete" in line:
                break
        else:
            raise AssertionError("".join(said))
        self.address: dict[str, Any] = json.loads((folder / "coordinator.json").read_text())
        self.client = CoordinatorClient(self.address["url"], self.address["token"])

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def stop(self) -> int:
        self.process.terminate()
        self.close()
        return self.process.returncode

    def close(self) -> None:
        self.client.close()
        if self.process.stderr:
            self.process.stderr.close()
        self.process.wait(PATIENCE_S)

    def ended(self, number: int) -> dict[str, Any]:
        """A compress job that has ended."""
        job = self.client.submit_job(
            "compress", "builder", build_payload(number), campaign="digits")
        while not job.has_ended:
            job = self.client.wait_job(job.job, 20.0)
        return job


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path / "lab")
    started.client.create_campaign(SPEC)
    yield started
    if started.process.poll() is None:
        started.kill()


def test_a_coordinator_from_start_to_stop(server: Server) -> None:
    path = server.folder / "coordinator.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert server.address["pid"] == server.process.pid
    assert server.address["url"].startswith("http://127.0.0.1:")
    assert server.client.healthy()
    job = server.ended(0)
    assert job.state == "done" and job.result["file_bytes"] > 0

    second = subprocess.run(
        [sys.executable, "-m", "searcher.api.server", "--dir", str(server.folder)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert second.returncode == 1
    assert str(server.process.pid) in second.stderr and "Traceback" not in second.stderr

    children = psutil.Process(server.process.pid).children()
    assert len(children) == 1, "a builder"
    assert server.stop() == 0
    assert not path.exists()
    psutil.wait_procs(children, PATIENCE_S)
    assert not any(child.is_running() for child in children)


def test_kill_9_loses_nothing_and_takes_the_builders_along(server: Server) -> None:
    job = server.ended(0)
    server.client.submit_job("compress", "builder", build_payload(76), campaign="digits")
    builders = psutil.Process(server.process.pid).children()
    while not (server.folder / "hanging").exists():
        server.client.wait_job(job.job + 1, 0.05)
    server.kill()
    gone, alive = psutil.wait_procs(builders, PATIENCE_S)
    assert alive == [] and gone

    again = Server(server.folder, "--builders", "0")
    assert again.ended(0) == job
    hanging = again.client.wait_job(job.job + 1)
    assert (hanging.state, hanging.attempt) == ("queued", 1)
    with open_ledger(server.folder / "ledger.db") as db:
        assert spans.still_open(db) == []
        assert len(spans.history(db, "digits")) == 2
    again.kill()


def enrolled(server: Server) -> str:
    """The secret of this machine's agent."""
    token = server.client.create_enrolment("local_cpu").token
    answer = httpx.post(f"{server.address['url']}/v1/agents", json={
        "protocol": 1, "token": token, "name": "local_cpu", "capabilities": {},
        "fingerprint": {"hostname": socket.gethostname()}})
    return str(answer.json()["secret"])


def test_leases_may_be_short(tmp_path: Path) -> None:
    server = Server(tmp_path / "lab", "--builders", "0", "--device-ttl-s", "2.5")
    try:
        content = b"candidate"
        file = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        (server.folder / "artifacts" / file["sha256"]).write_bytes(content)
        server.client.submit_job("measure", "device:local_cpu", measure_payload(file, file))
        with CoordinatorClient(server.address["url"], enrolled(server)) as agent:
            lease = agent.lease(30.0)
            assert lease is not None and lease.ttl_s == 2.5
    finally:
        server.kill()


def test_a_measurement_on_this_host_stops_the_builder(server: Server) -> None:
    build = server.client.submit_job("compress", "builder", build_payload(76), campaign="digits")
    while not (server.folder / "hanging").exists():
        server.client.wait_job(build.job, 0.05)
    [builder] = psutil.Process(server.process.pid).children()
    secret = enrolled(server)
    files = []
    for number in range(4):
        content = f"candidate {number}".encode()
        sha256 = hashlib.sha256(content).hexdigest()
        (server.folder / "artifacts" / sha256).write_bytes(content)
        files.append({"sha256": sha256, "size_bytes": len(content)})
    server.client.submit_job(
        "measure", "device:local_cpu", measure_payload(*files, files[0]), campaign="digits")
    with CoordinatorClient(server.address["url"], secret) as agent:
        lease = agent.lease(30.0)
        assert lease is not None and lease.kind == "measure"
        assert lease.ttl_s == LeaseRules.device_ttl_s
        assert builder.status() == psutil.STATUS_STOPPED
        agent.put_done(lease, measure_result(lease.payload))
    assert builder.status() != psutil.STATUS_STOPPED
    with open_ledger(server.folder / "ledger.db") as db:
        first, measure, second = spans.history(db, "digits")
        assert [s.kind for s in (first, measure, second)] == ["build", "measure", "build"]
        assert first.end_s and measure.end_s
        assert first.end_s <= measure.start_s < measure.end_s <= second.start_s


def test_a_recipe_that_kills_its_builder_is_given_up(server: Server) -> None:
    job = server.ended(65)
    assert (job.state, job.reason, job.attempt) == ("failed", "quarantined", 3)
    assert "SIGKILL" in job.message
    assert server.ended(1).state == "done"


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, os\n"
        "child = subprocess.Popen([sys.executable, '-m', 'searcher.api.server', '--builders', '0',"
        " '--dir', sys.argv[1], '--parent-pid', str(os.getpid())], stderr=subprocess.PIPE)\n"
        "while b'startup complete' not in child.stderr.readline(): pass\n"
        "sys.stdout.write(str(child.pid)); sys.stdout.flush(); os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True,
        timeout=PATIENCE_S, check=False)
    assert parent.returncode == -signal.SIGKILL
    try:
        psutil.Process(int(parent.stdout)).wait(PATIENCE_S)
    except psutil.NoSuchProcess:
        pass


def test_it_imports_neither_torch_nor_optuna() -> None:
    script = (
        "import sys, searcher.api.server, searcher.statistics.latency, searcher.spec.campaign\n"
        "heavy = {'torch', 'optuna', 'onnxruntime', 'strategies.base'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                           timeout=PATIENCE_S, check=False)
    assert ended.stderr.strip() == ""


def test_refusals_before_serving(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = {
            "Add --tls": ["--host", "0.0.0.0"],
            "Choose another --port": ["--port", str(taken.getsockname()[1])],
            "is no size": ["--keep", "5 parsecs"],
        }
        for complaint, arguments in refused.items():
            ended = subprocess.run(
                [sys.executable, "-m", "searcher.api.server", "--dir", str(tmp_path), *arguments],
                capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            assert ended.returncode == 1 and complaint in ended.stderr
            assert not (tmp_path / "coordinator.json").exists()


class Daemon:
    """``fleetfront serve`` on a free port, ready, without builders."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [FLEETFRONT, "serve", "--dir", str(folder), "--port", "0", "--builders", "0",
             *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
        self.said = [self.process.stdout.readline() if self.process.stdout else ""]
        if not self.said[0]:
            raise AssertionError(self.process.communicate()[1])
        self.address: dict[str, Any] = json.loads((folder / "coordinator.json").read_text())

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_daemon_with_tls_is_reached_by_its_fingerprint(tmp_path: Path) -> None:
    with Daemon(tmp_path / "lab", "--tls", "--host", "0.0.0.0") as daemon:
        address = daemon.address
        assert address["url"].startswith("https://127.0.0.1:") and address["daemon"]
        assert address["advertised"].startswith(f"https://{socket.gethostname()}:")
        assert daemon.process.stdout is not None
        printed = [*daemon.said, daemon.process.stdout.readline(), daemon.process.stdout.readline()]
        assert printed[-1].strip() == f"fingerprint {address['fingerprint']}"
        with connect(daemon.folder) as client:
            assert client.campaigns() == []
        plain = address["url"].replace("https", "http")
        with httpx.Client(trust_env=False) as stranger, pytest.raises(httpx.TransportError):
            stranger.get(f"{plain}/healthz")
    with Daemon(tmp_path / "lab", "--tls") as again:
        assert again.address["fingerprint"] == address["fingerprint"]


def test_the_log_of_requests_has_no_token(tmp_path: Path) -> None:
    with Daemon(tmp_path / "lab", "--log-level", "debug", "--log-format", "json") as daemon:
        with connect(daemon.folder) as client:
            secret = client.create_enrolment("bench-1").token
        daemon.process.terminate()
        _, logged = daemon.process.communicate(timeout=PATIENCE_S)
    assert daemon.process.returncode == 0
    assert "POST /v1/enrolments 200" in logged
    assert daemon.address["token"] not in logged and secret not in logged


def test_a_long_poll_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with Daemon(tmp_path / "lab") as daemon:
        with connect(daemon.folder) as operator:
            token = operator.create_enrolment("bench-1").token
            enrolled = httpx.post(f"{daemon.address['url']}/v1/agents", json={
                "protocol": 1, "token": token, "name": "bench-1", "capabilities": {},
                "fingerprint": {"hostname": "elsewhere"}})
        answers: list[Any] = []
        recognised = "SELECT 1 FROM agents WHERE first_used_s IS NOT NULL"
        with CoordinatorClient(daemon.address["url"], enrolled.json()["secret"]) as agent:
            poll = threading.Thread(target=lambda: answers.append(agent.lease(45.0)))
            poll.start()
            with open_ledger(daemon.folder / "ledger.db") as db:
                while not list(db.query(recognised)):
                    poll.join(0.01)
            daemon.process.terminate()
            assert daemon.process.wait(PATIENCE_S) == 0
            poll.join(PATIENCE_S)
        assert answers == [None]


@pytest.mark.parametrize(("arguments", "said"), [
    (("--host", "0.0.0.0"), "Add --tls"),
    (("--certificate", "missing.pem", "--key", "missing.key"), "missing.pem cannot be read"),
    (("--tasks", "os"), "package.module:factory"),
])
def test_a_daemon_that_must_not_start(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(AssertionError, match=said):
        Daemon(tmp_path / "lab", *arguments)
    assert not (tmp_path / "lab" / "coordinator.json").exists()


def test_a_second_signal_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without its body delays a graceful stop; systemd gets both notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with Daemon(tmp_path / "lab") as daemon:
            assert systemd.recv(100) == b"READY=1"
            address = ("127.0.0.1", httpx.URL(daemon.address["url"]).port)
            with socket.create_connection(address, PATIENCE_S) as slow:
                slow.sendall(b"POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                             b"Expect: 100-continue\r\n\r\n")
                assert b"100 Continue" in slow.recv(100)
                daemon.process.terminate()
                assert systemd.recv(100) == b"STOPPING=1"
                daemon.process.terminate()
                assert daemon.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
            assert not (daemon.folder / "coordinator.json").exists()
    with Daemon(tmp_path / "lab") as again, connect(again.folder) as client:
        assert client.campaigns() == []
