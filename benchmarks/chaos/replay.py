"""Replays the journaled requests and results to a coordinator without faults, and compares fronts.

    submit job > lease > put the same result      in the order in which results were accepted
    create trial > update it                      with its last update
    save the state of each search                 the last one

The second coordinator numbers jobs, trials and measurements itself. Measurement ids in trial
updates are translated with the responses of the first coordinator.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.coordinator.http import HttpClient
from agents.coordinator.spool import send_result
from agents.protocol import Lease, LeaseRequest, decode, encode
from benchmarks.chaos.audit import Finding
from benchmarks.chaos.journal import Exchange, measurement_ids
from benchmarks.chaos.processes import REPOSITORY, enrol
from benchmarks.chaos.quarantine import QuarantineRelease
from searcher.client.http import CoordinatorClient
from searcher.documents import parse
from searcher.errors import FleetfrontError, UserError
from searcher.jobs.base import BUILDER
from searcher.jobs.registry import key_of
from searcher.ledger.read_only import open_ledger
from searcher.ledger.rows import TrialParameters
from searcher.ledger.tables.search_state import SearchState
from searcher.results.view import Reading
from searcher.spec.recipe import Recipe

START_S = 30.0


class ReplayMismatch(Exception):
    """The coordinator without faults does not accept a journaled request, or answers differently.
    """


@dataclass(frozen=True)
class Accepted:
    """A result that the first ledger holds, with its content from the journal."""

    job: int
    key: str
    pool: str
    content: bytes


def compare_fronts(exchanges: Sequence[Exchange], data: Path, body: Callable[[str], bytes | None],
                   folder: Path) -> Finding:
    """Compares the front of every campaign with and without faults."""
    rule = "every front equals that of a run without faults"
    try:
        with UndisturbedCoordinator(folder, data / "artifacts") as other:
            Replay(exchanges, data, body, other).run()
        names = sorted(row.name for row in Reading(data).campaigns())
        violations = [f"{name}: {difference}" for name in names
                      if (difference := _difference(data, folder, name))]
    except (ReplayMismatch, FleetfrontError) as error:
        return Finding(rule, 1, (str(error),))
    return Finding(rule, len(names), tuple(violations))


def _difference(disturbed: Path, undisturbed: Path, name: str) -> str | None:
    """None when both fronts are equal, except for the paths of their files."""
    found = [_front(directory, name) for directory in (disturbed, undisturbed)]
    if found[0] == found[1]:
        return None
    if isinstance(found[0], str) or isinstance(found[1], str):
        return f"{found[0]}; undisturbed: {found[1]}"
    keys = [key for key in found[0] if found[0][key] != found[1].get(key)]
    return f"they differ in {', '.join(keys)}: {len(found[0]['points'])} points, undisturbed " \
           f"{len(found[1]['points'])}"


def _front(directory: Path, name: str) -> dict[str, Any] | str:
    """The front, or the message that says why the campaign has none."""
    try:
        document: dict[str, Any] = Reading(directory).front(name).as_document()
    except UserError as error:
        return str(error)
    for point in (document["baseline"], *document["points"]):
        del point["artifact"]
    return document


class UndisturbedCoordinator:
    """A shipped coordinator in ``folder``, without builders, with the same artifacts."""

    def __init__(self, folder: Path, artifacts: Path) -> None:
        shutil.copytree(artifacts, folder / "artifacts")
        self.folder = folder
        self._workers: dict[str, HttpClient] = {}

    def __enter__(self) -> "UndisturbedCoordinator":
        with (self.folder / "coordinator.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "searcher.api.server", "--dir", str(self.folder),
                 "--builders", "0", "--parent-pid", str(os.getpid())],
                stdout=log, stderr=log, cwd=REPOSITORY)
        ends_s = time.monotonic() + START_S
        while not (self.folder / "coordinator.json").exists():
            if self._process.poll() is not None or time.monotonic() > ends_s:
                raise ReplayMismatch(f"The second coordinator does not start: see {self.folder}.")
            time.sleep(0.02)
        address = json.loads((self.folder / "coordinator.json").read_text())
        self.client = CoordinatorClient(address["url"], address["token"])
        return self

    def __exit__(self, *error: object) -> None:
        for link in self._workers.values():
            link.close()
        self.client.close()
        self._process.terminate()
        self._process.wait()

    def worker(self, pool: str) -> HttpClient:
        """Connection of an enrolled worker of ``pool``."""
        if pool not in self._workers:
            name = pool.removeprefix("device:")
            token = self.client.create_enrolment(
                name, "builder" if pool == BUILDER else "agent").token
            secret = enrol(self.client.url, token, name).secret
            self._workers[pool] = HttpClient(self.client.url, secret)
        return self._workers[pool]


class Replay:
    """Sends the journaled requests of the first coordinator to ``other``."""

    def __init__(self, exchanges: Sequence[Exchange], data: Path,
                 body: Callable[[str], bytes | None], other: UndisturbedCoordinator) -> None:
        self._exchanges, self._data, self._body, self._other = exchanges, data, body, other
        self._results: dict[int, Mapping[str, Any]] = {}
        self._submitted: dict[str, Mapping[str, Any]] = {}
        for one in exchanges:
            if one.is_about("POST", "v1", "jobs") and isinstance(one.request, dict):
                asked = one.request
                key = key_of(asked["kind"], asked["pool"], asked["payload"])
                self._submitted.setdefault(key, asked)

    def run(self) -> None:
        """Sends campaigns, results, trials and search states. Raises ReplayMismatch."""
        for spec in self._specs().values():
            self._other.client.create_campaign(spec)
        for accepted in self._accepted():
            self._results[accepted.job] = self._done(accepted)
        self._trials()
        for (name, device), state in self._search_states().items():
            self._other.client.set_state(name, "running")
            self._other.client.save_search_state(name, device, parse(SearchState, state))

    def _specs(self) -> dict[str, Any]:
        return {e.request["name"]: e.request for e in self._exchanges
                if e.acknowledged and e.is_about("POST", "v1", "campaigns")}

    def _accepted(self) -> list[Accepted]:
        found = []
        with open_ledger(self._data / "ledger.db") as db:
            rows = db.execute("SELECT id, key, pool, result_sha256 FROM jobs WHERE result_sha256 "
                              "IS NOT NULL ORDER BY finished_seq").fetchall()
        for job, key, pool, sha256 in rows:
            content = self._body(sha256)
            if content is None:
                raise ReplayMismatch(f"job {job}: its result {sha256[:12]} is not in the journal")
            if key not in self._submitted:
                raise ReplayMismatch(f"job {job}: the journal has no request for it")
            found.append(Accepted(job, key, pool, content))
        return found

    def _done(self, accepted: Accepted) -> Mapping[str, Any]:
        """Submits, leases and puts; returns the result as the second coordinator describes it."""
        asked = self._submitted[accepted.key]
        client, worker = self._other.client, self._other.worker(accepted.pool)
        job = client.submit_job(asked["kind"], asked["pool"], asked["payload"],
                                campaign=asked.get("campaign"))
        # The same failures cause the same quarantine.
        if accepted.pool != BUILDER:
            QuarantineRelease(client).release()
        answer = worker.request("POST", "/v1/lease", encode(LeaseRequest(1, 10.0)))
        lease = decode(Lease, answer.body) if answer.status == 200 else None
        if lease is None or lease.job != job.job:
            raise ReplayMismatch(f"job {accepted.job}: without faults, it cannot be leased")
        send_result(worker, lease.job, lease.attempt, lease.fence, accepted.content)
        return client.wait_job(lease.job).result or {}

    def _trials(self) -> None:
        with open_ledger(self._data / "ledger.db") as db:
            rows = db.execute(
                "SELECT id, campaign, recipe, state FROM trials ORDER BY id").fetchall()
        asked = {(e.part(2), e.request["recipe"]): e.request for e in self._exchanges
                 if e.is_about("POST", "v1", "campaigns", "*", "trials")}
        updates = self._trial_updates()
        measured = measurement_ids(self._exchanges)
        for trial, campaign, recipe, state in rows:
            if (campaign, recipe) not in asked:
                raise ReplayMismatch(f"trial {trial}: the journal has no request for it")
            request = asked[campaign, recipe]
            new = self._other.client.create_trial(
                campaign, request["device"], Recipe.from_list(request["steps"]),
                parse(TrialParameters, request.get("parameters") or {})).id
            if state == "running":
                continue
            if trial not in updates:
                raise ReplayMismatch(f"trial {trial}: {state} without an update in the journal")
            changes = dict(updates[trial])
            old = changes.get("measurement")
            if old is not None:
                changes["measurement"] = self._translated(measured, old)
            self._other.client.tell_trial(new, changes.pop("state"), **changes)

    def _translated(self, measured: Mapping[int, tuple[int, str]], old: int) -> int:
        """The second coordinator's id of measurement ``old``."""
        job, sha256 = measured.get(old, (0, ""))
        for entry in self._results.get(job, {}).get("measurements", ()):
            if entry["sha256"] == sha256:
                return int(entry["measurement"])
        raise ReplayMismatch(f"measurement {old} (job {job}, {sha256[:12]}) is in a trial update, "
                             "but not in a result")

    def _trial_updates(self) -> dict[int, Mapping[str, Any]]:
        """Trial -> its last acknowledged update, or its last sent update if none was acknowledged.
        """
        found: dict[int, Mapping[str, Any]] = {}
        for acknowledged in (False, True):
            for one in sorted(self._exchanges, key=lambda e: e.sent_s):
                if one.is_about("PUT", "v1", "trials", "*") and isinstance(one.request, dict) \
                        and (one.acknowledged or (not acknowledged and one.status is None)):
                    found[int(one.part(2))] = one.request
        return found

    def _search_states(self) -> dict[tuple[str, str], Any]:
        """(campaign, device) -> the last acknowledged search state."""
        return {(e.part(2), e.part(4)): e.request
                for e in sorted(self._exchanges, key=lambda e: e.sent_s)
                if e.acknowledged
                and e.is_about("PUT", "v1", "campaigns", "*", "search-states", "*")}


def as_json(findings: Sequence[Finding]) -> str:
    return json.dumps([{"rule": f.rule, "checked": f.checked, "violations": f.violations}
                       for f in findings], indent=1)
