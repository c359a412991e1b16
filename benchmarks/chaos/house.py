"""The real processes of one run: coordinator with its builders, agents, search; kept alive."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from agents import protocol
from agents.coordinator.spool import Secret, read_secret, write_secret
from benchmarks.chaos.proxy import Upstream
from searcher.client.http import CoordinatorClient
from searcher.local.process_tree import build_agent

REPOSITORY = Path(__file__).parents[2]
LOCAL = "local_cpu"
BOARDS = ("board-1", "board-2", "board-3")
BUILDERS = 2
DEVICE_TTL_S, BUILDER_TTL_S = 3.0, 2.0
STOP_S = 10.0
SHIPPED, PLANTED = "searcher.api.server", "benchmarks.chaos.planted"

FAKE_PYTHON = """#!/bin/sh
# An interpreter whose ONNX Runtime is the agents' fake runtime.
for word; do
  shift
  [ "$word" = onnxruntime ] && word=fake
  set -- "$@" "$word"
done
exec {python} "$@"
"""


@dataclass
class Post:
    """A process that is started again whenever it has ended."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    wanted: bool = True

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


class House:
    """``folder`` holds spools, logs and what the benchmark needs; ``data`` is the coordinator's.

    Start processes from the main thread only: they end with it.
    """

    def __init__(self, folder: Path, data: Path, port: int, via_port: int, program: str,
                 clock: Mapping[str, str]) -> None:
        self.folder, self.data, self.port = folder, data, port
        self.via = f"http://127.0.0.1:{via_port}"
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        self._archive = folder / "agent.pyz"
        build_agent(self._archive)
        builder = [sys.executable, "-m", "benchmarks.chaos.builder", "--via", self.via]
        self.coordinator = Post("coordinator", [
            sys.executable, "-m", program, "--dir", str(data), "--port", str(port),
            "--builders", str(BUILDERS), "--parent-pid", str(os.getpid()),
            "--device-ttl-s", str(DEVICE_TTL_S), "--builder-ttl-s", str(BUILDER_TTL_S),
            *(f"--builder-command={word}" for word in builder)], clock)
        self.search: Post | None = None
        self.agents: dict[str, Post] = {}
        self._addressed: tuple[int, Upstream] | None = None
        self._address: dict[str, Any] = {}

    def posts(self) -> list[Post]:
        return [self.coordinator, *self.agents.values(), *([self.search] if self.search else [])]

    def tend(self) -> None:
        """Start coordinator and agents wherever they do not run."""
        for post in (self.coordinator, *self.agents.values()):
            if post.wanted and not post.alive:
                self.start(post)

    def start(self, post: Post) -> None:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1",
                       **post.environment}
        with (self.folder / "logs" / f"{post.name}.log").open("ab") as log:
            post.process = subprocess.Popen(
                post.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True, cwd=REPOSITORY)
        post.starts += 1

    def upstream(self) -> Upstream | None:
        """Where the coordinator that lives now serves; None until it has said so."""
        process = self.coordinator.process
        if process is None or process.poll() is not None:
            return None
        if self._addressed is not None and self._addressed[0] == process.pid:
            return self._addressed[1]
        try:
            address = json.loads((self.data / "coordinator.json").read_text())
        except (OSError, ValueError):
            return None
        if address.get("pid") != process.pid:
            return None
        self._address, self._addressed = address, (
            process.pid, Upstream(self.port, address["token"]))
        return self._addressed[1]

    def add_boards(self, client: CoordinatorClient) -> None:
        """Devices that share no cores with the builders, as their fingerprint says."""
        for name in BOARDS:
            token = client.create_enrolment(name).token
            enrolled = enrol(self.via, token, name)
            spool = self._spool(name)
            write_secret(str(spool), Secret(self.via, name, enrolled.agent, enrolled.secret))
            self._add_agent(name, "fake", sys.executable)

    def add_local(self, client: CoordinatorClient) -> None:
        """This machine as a device: it measures in quiet windows, and enrols itself."""
        python = self.folder / "python"
        python.write_text(FAKE_PYTHON.format(python=sys.executable))
        python.chmod(0o755)
        self._add_agent(LOCAL, "onnxruntime", str(python),
                        "--token", client.create_enrolment(LOCAL, "agent", LOCAL).token)

    def enrolled(self) -> bool:
        """Whether this machine's agent has its secret."""
        return read_secret(str(self._spool(LOCAL))) is not None

    def keep_secrets(self) -> None:
        """Agents start without their one-time tokens from now on."""
        command = self.agents[LOCAL].command
        del command[command.index("--token"):]

    def _spool(self, name: str) -> Path:
        spool = self.folder / "agents" / name
        spool.mkdir(parents=True, exist_ok=True)
        return spool

    def _add_agent(self, name: str, runtime: str, python: str, *more: str) -> None:
        self.agents[name] = Post(f"agent-{name}", [
            sys.executable, str(self._archive), "--coordinator", self.via, "--name", name,
            "--spool", str(self._spool(name)), "--runtime", runtime, "--runtime-python", python,
            "--parent-pid", str(os.getpid()), *more])

    def unsent(self) -> int:
        """Results that agents keep until the coordinator has them."""
        return sum(1 for _ in (self.folder / "agents").glob("*/results/*/*.json"))

    def seek(self, campaign: str, token: str) -> Post:
        """A search for ``campaign``, to be started; it finds the proxy where others find the
        coordinator."""
        via = self.folder / "by-proxy"
        via.mkdir(exist_ok=True)
        (via / "coordinator.json").write_text(json.dumps(
            {**self._address, "url": self.via, "token": token}))
        self.search = Post("search", [
            sys.executable, "-m", "searcher.search.process", "--dir", str(via), "--campaign",
            campaign, "--parent-pid", str(os.getpid())])
        return self.search

    def children(self, post: Post) -> list[psutil.Process]:
        """Builders of the coordinator, measuring children of an agent."""
        if post.process is None:
            return []
        try:
            return list(psutil.Process(post.process.pid).children())
        except psutil.NoSuchProcess:
            return []

    def stop(self) -> None:
        """Gracefully where that works, in any case within ``STOP_S``."""
        for post in reversed(self.posts()):
            post.wanted = False
            post.signal(signal.SIGCONT)
            post.signal(signal.SIGTERM)
        for post in self.posts():
            if post.process is None:
                continue
            with contextlib.suppress(subprocess.TimeoutExpired):
                post.process.wait(STOP_S)
            post.signal(signal.SIGKILL)
            post.process.wait()


def enrol(url: str, token: str, name: str) -> protocol.Enrolled:
    """Join as a device that stands elsewhere."""
    from agents.coordinator.http import HttpClient

    message = protocol.Enrol(
        protocol.PROTOCOL_VERSION, token, name,
        {"hostname": name, "boot_id": f"of-{name}", "machine": "fake"}, _capabilities())
    link = HttpClient(url)
    try:
        answer = link.request("POST", "/v1/agents", protocol.encode(message))
        return protocol.decode(protocol.Enrolled, answer.body)
    finally:
        link.close()


def _capabilities() -> dict[str, Any]:
    return {"kinds": ["measure"], "runtimes": {"fake": {"fake": "1"}}, "missing": {},
            "meters": {}}
