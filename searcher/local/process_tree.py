"""The process tree of ``run``: coordinator (with its builders), one local agent, one search.

    fleetfront run ─┬─ searcher.api.server ── searcher.builders.process × n
                    ├─ agents (agent.pyz)  ── one child per measurement
                    └─ searcher.search.process

All state that must survive is in the ledger, so the tree may be killed at any time.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from searcher.client.http import ADDRESS, CoordinatorClient, address_of, connect
from searcher.devices.agent_archive import agent_archive
from searcher.errors import FleetfrontError, UserError
from searcher.ledger.directory_lock import owned
from searcher.ledger.read_only import open_ledger
from searcher.ledger.tables import devices
from searcher.spec.runtime_options import DEFAULT, LOCAL_DEVICE

STARTUP_S = 60.0
STOP_S = 10.0
LEAST_FREE_BYTES = 1_000_000


@dataclass
class Tree:
    """Running child processes by name, and a client of the coordinator among them."""

    directory: Path
    client: CoordinatorClient
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    seen_s: float | None = None
    """Time at which this machine's agent was last seen before the tree started it; None: never."""

    def spawn(self, name: str, command: Sequence[str]) -> None:
        """Start a child that logs to ``logs/<name>.log``."""
        self.children[name] = _spawn(self.directory, name, command)

    def begin(self, name: str) -> None:
        """Let a child start that waits for a line on its stdin (``--when-told``)."""
        stdin = self.children[name].stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(b"\n")
            stdin.flush()

    def check(self) -> None:
        """Raises FleetfrontError when the coordinator or the agent has ended, or when this machine
        is in quarantine."""
        for name in ("coordinator", "agent"):
            child = self.children.get(name)
            if child is not None and child.poll() is not None:
                raise FleetfrontError(f"The {name} process ended with {child.returncode}:\n"
                                      f"{log_tail(self.directory, name)}")
        if "agent" in self.children:
            self._check_device()

    def _check_device(self) -> None:
        # Read from the file: a request would use CPU of the coordinator during a measurement.
        with open_ledger(self.directory / "ledger.db") as db:
            device = devices.device(db, LOCAL_DEVICE)
        if device is not None and device.state == "quarantined":
            raise FleetfrontError(f"This machine does not measure reliably: {device.reason}.\n"
                                  f"{log_tail(self.directory, 'agent')}")


def _stop(children: dict[str, subprocess.Popen[bytes]]) -> None:
    """Terminate every child, the last started first, and kill those that do not end."""
    for child in reversed(children.values()):
        child.terminate()
    deadline = time.monotonic() + STOP_S
    for child in reversed(children.values()):
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(deadline - time.monotonic(), 0.1))
        if child.poll() is None:
            child.kill()
            child.wait()
        if child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()


def _spawn(directory: Path, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
    folder = directory / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log,
                                start_new_session=True, env=environment)


def log_tail(directory: Path, name: str, lines: int = 12) -> str:
    """The last lines of a child's log."""
    log = directory / "logs" / f"{name}.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:]) or f"(nothing in {log})"


def refuse_daemon(directory: Path) -> None:
    """Raises UserError when a daemon serves ``directory``; campaigns must then be submitted to
    it."""
    try:
        address = address_of(directory)
    except UserError:
        return
    with connect(directory) as client:
        if not (address.daemon and client.healthy()):
            return
    raise UserError(
        f"A daemon serves {directory} at {address.url} (process {address.pid}). Submit the "
        f"campaign to it: fleetfront submit CAMPAIGN.toml --dir {directory}"
    )


def serves(directory: Path) -> bool:
    """Whether a coordinator serves ``directory`` now."""
    try:
        with connect(directory) as client:
            return client.healthy()
    except UserError:
        return False


@contextlib.contextmanager
def tree(directory: Path, builders: int, agent: bool,
         search: Sequence[str] | None = None, runtime: str = DEFAULT.runtime,
         workers: str | None = None) -> Iterator[Tree]:
    """Start a coordinator with ``builders`` builders in the pool ``workers``, optionally an agent
    for this machine with ``runtime``, and the command ``search``. The search process loads its
    modules while the coordinator starts, then waits for ``Tree.begin``.

    Raises UserError when another process owns ``directory``, FleetfrontError when a child does not
    start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    check_disk(directory)
    refuse_daemon(directory)
    with owned(directory):
        (directory / ADDRESS).unlink(missing_ok=True)
    command = [sys.executable, "-m", "searcher.api.server", "--dir", str(directory), "--port", "0",
               "--builders", str(builders), "--parent-pid", str(os.getpid()),
               *(() if workers is None else ("--workers", workers))]
    children = {"coordinator": _spawn(directory, "coordinator", command)}
    try:
        if search is not None:
            children["search"] = _spawn(directory, "search", search)
        with _connect(directory, children["coordinator"]) as client:
            processes = Tree(directory, client, children)
            if agent:
                _start_agent(processes, runtime)
            yield processes
    finally:
        _stop(children)


def _connect(directory: Path, coordinator: subprocess.Popen[bytes]) -> CoordinatorClient:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline:
        if coordinator.poll() is not None:
            raise FleetfrontError("The coordinator did not start:\n"
                                  f"{log_tail(directory, 'coordinator')}")
        with contextlib.suppress(UserError):
            return connect(directory)
        time.sleep(0.02)
    raise FleetfrontError(f"The coordinator did not answer within {STARTUP_S:g} s.")


def _start_agent(processes: Tree, runtime: str) -> None:
    """Enrol this machine as ``local_cpu`` with a one-time token and start its agent. A quarantine
    or drain of this machine is lifted: the user asked to measure on it."""
    archive = processes.directory / "agent.pyz"
    build_agent(archive)
    token = processes.client.create_enrolment(LOCAL_DEVICE, "agent", LOCAL_DEVICE).token
    spool = processes.directory / "agent"
    token_file = _token_file(spool, token)
    for device in processes.client.devices():
        if device.name == LOCAL_DEVICE:
            processes.seen_s = device.last_seen_s
            if device.state in ("quarantined", "draining", "drained"):
                processes.client.set_device_state(LOCAL_DEVICE, "active")
    processes.spawn("agent", [
        sys.executable, str(archive), "--coordinator", processes.client.url,
        "--token-file", str(token_file), "--name", LOCAL_DEVICE, "--runtime", runtime,
        "--spool", str(spool), "--parent-pid", str(os.getpid())])


def build_agent(archive: Path) -> None:
    """Write the ``agents`` package as one file for Python 3.6 and newer."""
    archive.write_bytes(agent_archive())


def _token_file(folder: Path, token: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"token-{secrets.token_hex(4)}"
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as stream:
        stream.write(token)
    return path


def await_agent(processes: Tree) -> None:
    """Wait until this machine's agent has enrolled, which registers the device with its meters and
    providers. Raises FleetfrontError."""
    deadline_s = time.monotonic() + STARTUP_S
    while processes.seen_s == {device.name: device.last_seen_s for device in
                           processes.client.devices()}.get(LOCAL_DEVICE):
        processes.check()
        if time.monotonic() > deadline_s:
            raise FleetfrontError(f"The agent did not enrol within {STARTUP_S:g} s:\n"
                                  f"{log_tail(processes.directory, 'agent')}")
        time.sleep(0.05)


def check_disk(directory: Path) -> None:
    """Raises UserError when the disk is full; then neither the ledger nor a log can be written."""
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        raise UserError(f"The disk that holds {directory} is full ({free} bytes free). Free "
                        "some space, then run the same command again. Recorded results are kept.")


