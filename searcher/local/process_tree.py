"""The process tree of ``run``: coordinator (with its builders), one local agent, one search.

    fleetfront run ─┬─ searcher.api.server ── searcher.builders.process × n
                    ├─ agents (agent.pyz)  ── one child per measurement
                    └─ searcher.search.process

Everything a child knows that must not be lost is in the ledger; the tree may die at any moment.
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
    """Running child processes by name; ``client`` speaks to the coordinator among them."""

    directory: Path
    client: CoordinatorClient
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    seen_s: float | None = None
    """When this machine's agent was last seen before it was started; None: never."""

    def spawn(self, name: str, command: Sequence[str]) -> None:
        """Start a child that logs to ``logs/<name>.log``."""
        self.children[name] = _spawn(self.directory, name, command)

    def begin(self, name: str) -> None:
        """Let a child begin that has waited for it (``--when-told``)."""
        stdin = self.children[name].stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(b"\n")
            stdin.flush()

    def check(self) -> None:
        """Raises FleetfrontError when the coordinator or the agent has died, or this machine is
        no device any more."""
        for name in ("coordinator", "agent"):
            child = self.children.get(name)
            if child is not None and child.poll() is not None:
                raise FleetfrontError(f"The {name} process ended with {child.returncode}:\n"
                                      f"{last_words(self.directory, name)}")
        if "agent" in self.children:
            self._check_device()

    def _check_device(self) -> None:
        # From the file: a request would have the coordinator work beside a measurement.
        with open_ledger(self.directory / "ledger.db") as db:
            device = devices.device(db, LOCAL_DEVICE)
        if device is not None and device.state == "quarantined":
            raise FleetfrontError(f"This machine does not measure reliably: {device.reason}.\n"
                                  f"{last_words(self.directory, 'agent')}")


def _stop(children: dict[str, subprocess.Popen[bytes]]) -> None:
    """Ask every child to end, last started first; kill what does not."""
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


def last_words(directory: Path, name: str, lines: int = 12) -> str:
    """The end of a child's log."""
    log = directory / "logs" / f"{name}.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:]) or f"(nothing in {log})"


def refuse_daemon(directory: Path) -> None:
    """Raises UserError when a daemon serves ``directory``: it is the one that runs campaigns."""
    try:
        address = address_of(directory)
    except UserError:
        return
    with connect(directory) as client:
        if not (address.daemon and client.healthy()):
            return
    raise UserError(
        f"A daemon serves {directory} at {address.url} (process {address.pid}). Give it the "
        f"campaign: fleetfront submit CAMPAIGN.toml --dir {directory}"
    )


def serves(directory: Path) -> bool:
    """Whether a coordinator serves ``directory`` right now."""
    try:
        with connect(directory) as client:
            return client.healthy()
    except UserError:
        return False


@contextlib.contextmanager
def tree(directory: Path, builders: int, agent: bool,
         search: Sequence[str] | None = None, runtime: str = DEFAULT.runtime,
         workers: str | None = None) -> Iterator[Tree]:
    """Coordinator with ``builders`` builders in the pool ``workers``, an agent for this machine if
    asked, with ``runtime``, and the command ``search``, which loads beside the coordinator and
    waits for ``Tree.begin``.

    Raises UserError when ``directory`` has another owner, FleetfrontError when a child does not
    come up.
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
            grown = Tree(directory, client, children)
            if agent:
                _start_agent(grown, runtime)
            yield grown
    finally:
        _stop(children)


def _connect(directory: Path, coordinator: subprocess.Popen[bytes]) -> CoordinatorClient:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline:
        if coordinator.poll() is not None:
            raise FleetfrontError("The coordinator did not start:\n"
                                  f"{last_words(directory, 'coordinator')}")
        with contextlib.suppress(UserError):
            return connect(directory)
        time.sleep(0.02)
    raise FleetfrontError(f"The coordinator did not answer within {STARTUP_S:g} s.")


def _start_agent(grown: Tree, runtime: str) -> None:
    """Enrol this machine as ``local_cpu`` with a one-time token and start its agent. Whoever
    starts it again means to use it, in quarantine or not."""
    archive = grown.directory / "agent.pyz"
    build_agent(archive)
    token = grown.client.create_enrolment(LOCAL_DEVICE, "agent", LOCAL_DEVICE).token
    spool = grown.directory / "agent"
    token_file = _token_file(spool, token)
    for device in grown.client.devices():
        if device.name == LOCAL_DEVICE:
            grown.seen_s = device.last_seen_s
            if device.state in ("quarantined", "draining", "drained"):
                grown.client.set_device_state(LOCAL_DEVICE, "active")
    grown.spawn("agent", [
        sys.executable, str(archive), "--coordinator", grown.client.url,
        "--token-file", str(token_file), "--name", LOCAL_DEVICE, "--runtime", runtime,
        "--spool", str(spool), "--parent-pid", str(os.getpid())])


def build_agent(archive: Path) -> None:
    """The ``agents`` package as one file that any Python from 3.6 on runs."""
    archive.write_bytes(agent_archive())


def _token_file(folder: Path, token: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"token-{secrets.token_hex(4)}"
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as stream:
        stream.write(token)
    return path


def await_agent(grown: Tree) -> None:
    """Until this machine's agent has enrolled: only then is the device there to be named, and its
    meters and providers are known. Raises FleetfrontError."""
    deadline_s = time.monotonic() + STARTUP_S
    while grown.seen_s == {device.name: device.last_seen_s for device in
                           grown.client.devices()}.get(LOCAL_DEVICE):
        grown.check()
        if time.monotonic() > deadline_s:
            raise FleetfrontError(f"The agent did not enrol within {STARTUP_S:g} s:\n"
                                  f"{last_words(grown.directory, 'agent')}")
        time.sleep(0.05)


def check_disk(directory: Path) -> None:
    """Raises UserError when nothing more can be recorded. On a full disk no log can say so."""
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        raise UserError(f"The disk that holds {directory} is full ({free} bytes free). Free some "
                        "space there, then run the same command again: what is recorded is kept.")


