"""The process tree of ``run``: coordinator (with its builders), one local agent, one search.

    fleetfront run ─┬─ searcher.api.server ── searcher.builders.process × n
                    ├─ agents (agent.pyz)  ── one child per measurement
                    └─ searcher.search.process

Everything a child knows that must not be lost is in the ledger; the tree may die at any moment.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from searcher.client.http import ADDRESS, CoordinatorClient, address_of
from searcher.client.http import connect as connect
from searcher.devices.agent_archive import agent_archive
from searcher.errors import FleetfrontError, UserError, nearest
from searcher.ledger.directory_lock import owned
from searcher.ledger.read_only import open_ledger
from searcher.ledger.tables import devices
from searcher.results.view import Reading
from searcher.spec.campaign import Campaign, from_document, load
from searcher.spec.objectives import OBJECTIVES
from searcher.spec.runtime_options import DEFAULT
from searcher.spec.runtime_options import LOCAL_DEVICE as LOCAL_DEVICE
from searcher.workers.base import cores

STARTUP_S = 60.0
STOP_S = 10.0
LEAST_FREE_BYTES = 1_000_000
Show = Callable[[dict[str, Any], dict[str, Any] | None], None]


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
        if not (address["daemon"] and client.healthy()):
            return
    raise UserError(
        f"A daemon serves {directory} at {address['url']} (process {address['pid']}). Give it the "
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
         search: Sequence[str] | None = None, runtime: str = DEFAULT.runtime) -> Iterator[Tree]:
    """Coordinator with ``builders`` builder processes, an agent for this machine if asked, with
    ``runtime``, and the command ``search``, which loads beside the coordinator and waits for
    ``Tree.begin``.

    Raises UserError when ``directory`` has another owner, FleetfrontError when a child does not
    come up.
    """
    directory.mkdir(parents=True, exist_ok=True)
    check_disk(directory)
    refuse_daemon(directory)
    with owned(directory):
        (directory / ADDRESS).unlink(missing_ok=True)
    command = [sys.executable, "-m", "searcher.api.server", "--dir", str(directory), "--port", "0",
               "--builders", str(builders), "--parent-pid", str(os.getpid())]
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
    token = grown.client.create_enrolment(LOCAL_DEVICE, "agent", LOCAL_DEVICE)["token"]
    spool = grown.directory / "agent"
    token_file = _token_file(spool, token)
    for device in grown.client.devices():
        if device["name"] == LOCAL_DEVICE:
            grown.seen_s = device["last_seen_s"]
            if device["state"] in ("quarantined", "draining", "drained"):
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


def run_campaign(file: Path, directory: Path, show: Show = lambda status, front: None
                 ) -> dict[str, Any]:
    """Run or resume the campaign in ``file``; ends with front.json, report and files.

    ``show`` is called about once a second. Returns the front document. Raises UserError.
    """
    campaign = load(file)
    check_before_start(campaign)
    reading = Reading(directory)
    if not has_ended(reading, campaign):
        builders = campaign.builders or max(cores(), 1)
        search = [sys.executable, "-m", "searcher.search.process", "--dir", str(directory),
                  "--campaign", campaign.name, "--parent-pid", str(os.getpid()), "--when-told"]
        execution = campaign.executions[0]
        with tree(directory, builders, True, search, execution.runtime) as grown:
            if execution != DEFAULT or OBJECTIVES & {o.name for o in campaign.objectives}:
                await_agent(grown)
            known = grown.client.create_campaign(campaign.as_dict())
            if known["state"] in ("paused", "failed", "cancelled"):
                grown.client.set_state(campaign.name, "queued")
            grown.begin("search")
            _watch(grown, reading, campaign.name, show)
    return write_results(reading, campaign.name)


def await_agent(grown: Tree) -> None:
    """Until this machine's agent has enrolled: only then is the device there to be named, and its
    meters and providers are known. Raises FleetfrontError."""
    deadline_s = time.monotonic() + STARTUP_S
    while grown.seen_s == {device["name"]: device["last_seen_s"] for device in
                           grown.client.devices()}.get(LOCAL_DEVICE):
        grown.check()
        if time.monotonic() > deadline_s:
            raise FleetfrontError(f"The agent did not enrol within {STARTUP_S:g} s:\n"
                                  f"{last_words(grown.directory, 'agent')}")
        time.sleep(0.05)


def check_before_start(campaign: Campaign) -> None:
    """What can be refused at once: devices that are not here, unknown strategies."""
    for device in campaign.devices:
        if device != LOCAL_DEVICE:
            raise UserError(f"Device {device!r}: `fleetfront run` measures on this machine only. "
                            f'Write [[devices]] profile = "{LOCAL_DEVICE}".')
    if len(campaign.devices) > 1:
        raise UserError("A campaign of `fleetfront run` has one device.")
    check_strategies(campaign)


def check_strategies(campaign: Campaign) -> None:
    """Raises UserError for a strategy that there is not."""
    from strategies.catalog import names

    for strategy in campaign.search.strategies:
        if strategy not in names():
            raise UserError(f"Unknown strategy {strategy!r} in [search]. "
                            f"{nearest(strategy, names())}")


def check_disk(directory: Path) -> None:
    """Raises UserError when nothing more can be recorded. On a full disk no log can say so."""
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        raise UserError(f"The disk that holds {directory} is full ({free} bytes free). Free some "
                        "space there, then run the same command again: what is recorded is kept.")


def has_ended(reading: Reading, campaign: Campaign) -> bool:
    """Whether the ledger holds this campaign, finished. Raises UserError if its file changed."""
    if not (reading.directory / "ledger.db").exists():
        return False
    for row in reading.campaigns():
        if row.name == campaign.name:
            # An older version stored fewer settings: those that it did not know had their defaults.
            if from_document(row.spec) != campaign:
                raise UserError(
                    f"{reading.directory} holds a campaign {campaign.name!r} with other settings. "
                    "Give this one another name, or name another --dir.")
            return row.state == "done"
    return False


def _watch(grown: Tree, reading: Reading, name: str, show: Show) -> None:
    search = grown.children["search"]
    front, completed = None, -1
    while search.poll() is None:
        grown.check()
        check_disk(grown.directory)
        status = reading.status(name, time.time())
        row, _ = reading.campaign(name)
        # The front reads every trial: only when one more is complete can it have changed.
        if row.baseline and "values" in row.baseline and status["trials"]["complete"] != completed:
            front, completed = reading.front(name), status["trials"]["complete"]
        show(status, front)
        with contextlib.suppress(subprocess.TimeoutExpired):
            search.wait(1.0)
    if search.returncode != 0:
        row, _ = reading.campaign(name)
        reason = row.reason or last_words(grown.directory, "search")
        kind = UserError if search.returncode == 1 else FleetfrontError
        raise kind(f"The campaign {name} failed: {reason}")


def write_results(reading: Reading, name: str) -> dict[str, Any]:
    """``DIR/<campaign>/``: front.json, report.html and the files of the front."""
    from searcher.results.formatting import save_files
    from searcher.results.report_html import write_report

    folder = reading.directory / name
    folder.mkdir(parents=True, exist_ok=True)
    document = reading.front(name)
    (folder / "front.json").write_text(json.dumps(document, indent=2))
    write_report(reading, name, folder / "report.html")
    # What an earlier `serve --keep` dropped is named in the report.
    save_files(document, folder / "files")
    return document
