"""The processes of one run: coordinator with its builders, agents, search. They are restarted."""

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
SHIPPED, DEFECTIVE = "searcher.api.server", "benchmarks.chaos.late_commit"

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
class Service:
    """A process that is restarted whenever it has ended, while ``wanted``."""

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


class ProcessGroup:
    """``folder`` holds spools and logs; ``data`` is the coordinator's directory.

    Start processes from the main thread only: they die with the thread that started them.
    """

    def __init__(self, folder: Path, data: Path, port: int, via_port: int, program: str,
                 clock: Mapping[str, str]) -> None:
        self.folder, self.data, self.port = folder, data, port
        self.via = f"http://127.0.0.1:{via_port}"
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        self._archive = folder / "agent.pyz"
        build_agent(self._archive)
        builder = [sys.executable, "-m", "benchmarks.chaos.builder", "--via", self.via]
        self.coordinator = Service("coordinator", [
            sys.executable, "-m", program, "--dir", str(data), "--port", str(port),
            "--builders", str(BUILDERS), "--parent-pid", str(os.getpid()),
            "--device-ttl-s", str(DEVICE_TTL_S), "--builder-ttl-s", str(BUILDER_TTL_S),
            *(f"--builder-command={word}" for word in builder)], clock)
        self.search: Service | None = None
        self.agents: dict[str, Service] = {}
        self._addressed: tuple[int, Upstream] | None = None
        self._address: dict[str, Any] = {}

    def services(self) -> list[Service]:
        return [self.coordinator, *self.agents.values(), *([self.search] if self.search else [])]

    def restart_dead(self) -> None:
        """Starts the coordinator and the agents that do not run."""
        for service in (self.coordinator, *self.agents.values()):
            if service.wanted and not service.alive:
                self.start(service)

    def start(self, service: Service) -> None:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1",
                       **service.environment}
        with (self.folder / "logs" / f"{service.name}.log").open("ab") as log:
            service.process = subprocess.Popen(
                service.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True, cwd=REPOSITORY)
        service.starts += 1

    def upstream(self) -> Upstream | None:
        """Address of the running coordinator; None until it has written it."""
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
        """Adds devices whose fingerprint says that they share no cores with the builders."""
        for name in BOARDS:
            token = client.create_enrolment(name).token
            enrolled = enrol(self.via, token, name)
            spool = self._spool(name)
            write_secret(str(spool), Secret(self.via, name, enrolled.agent, enrolled.secret))
            self._add_agent(name, "fake", sys.executable)

    def add_local(self, client: CoordinatorClient) -> None:
        """Adds this machine as a device. It enrols itself, and measures while builders are stopped.
        """
        python = self.folder / "python"
        python.write_text(FAKE_PYTHON.format(python=sys.executable))
        python.chmod(0o755)
        self._add_agent(LOCAL, "onnxruntime", str(python),
                        "--token", client.create_enrolment(LOCAL, "agent", LOCAL).token)

    def enrolled(self) -> bool:
        """Whether this machine's agent has received its secret."""
        return read_secret(str(self._spool(LOCAL))) is not None

    def drop_enrolment_token(self) -> None:
        """Removes the one-time token from the local agent's command, for later restarts."""
        command = self.agents[LOCAL].command
        del command[command.index("--token"):]

    def _spool(self, name: str) -> Path:
        spool = self.folder / "agents" / name
        spool.mkdir(parents=True, exist_ok=True)
        return spool

    def _add_agent(self, name: str, runtime: str, python: str, *more: str) -> None:
        self.agents[name] = Service(f"agent-{name}", [
            sys.executable, str(self._archive), "--coordinator", self.via, "--name", name,
            "--spool", str(self._spool(name)), "--runtime", runtime, "--runtime-python", python,
            "--parent-pid", str(os.getpid()), *more])

    def undelivered(self) -> int:
        """Number of results in the agents' spools, not yet accepted by the coordinator."""
        return sum(1 for _ in (self.folder / "agents").glob("*/results/*/*.json"))

    def prepare_search(self, campaign: str, token: str) -> Service:
        """A search process for ``campaign``, not yet started; its coordinator.json has the proxy's
        address."""
        via = self.folder / "by-proxy"
        via.mkdir(exist_ok=True)
        (via / "coordinator.json").write_text(json.dumps(
            {**self._address, "url": self.via, "token": token}))
        self.search = Service("search", [
            sys.executable, "-m", "searcher.search.process", "--dir", str(via), "--campaign",
            campaign, "--parent-pid", str(os.getpid())])
        return self.search

    def children(self, service: Service) -> list[psutil.Process]:
        """Child processes: builders of the coordinator, measurement processes of an agent."""
        if service.process is None:
            return []
        try:
            return list(psutil.Process(service.process.pid).children())
        except psutil.NoSuchProcess:
            return []

    def stop(self) -> None:
        """Sends SIGTERM, and SIGKILL to each process that still runs after ``STOP_S``."""
        for service in reversed(self.services()):
            service.wanted = False
            service.signal(signal.SIGCONT)
            service.signal(signal.SIGTERM)
        for service in self.services():
            if service.process is None:
                continue
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.process.wait(STOP_S)
            service.signal(signal.SIGKILL)
            service.process.wait()


def enrol(url: str, token: str, name: str) -> protocol.Enrolled:
    """Enrols a device on another host."""
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
