"""The same requests and results once more, to a coordinator that nobody disturbs.

    submit job > lease > put the same result      in the order in which results were accepted
    create trial > tell it                        as they were told last
    save the state of each search                 the last one

Its numbers of jobs, trials and measurements are its own; what the search told of measurements is
translated by what the disturbed coordinator had said about them on the wire.
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
from benchmarks.chaos.house import REPOSITORY, enrol
from benchmarks.chaos.journal import Exchange, measurement_ids
from benchmarks.chaos.keeper import Keeper
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


class Differs(Exception):
    """The undisturbed coordinator cannot be told the same, or does something else."""


@dataclass(frozen=True)
class Accepted:
    """A result that counts in the disturbed ledger; its content is that of the wire."""

    job: int
    key: str
    pool: str
    content: bytes


def compare_fronts(exchanges: Sequence[Exchange], data: Path, body: Callable[[str], bytes | None],
                   folder: Path) -> Finding:
    """The front of every campaign, disturbed and undisturbed."""
    rule = "every front equals that of an undisturbed run"
    try:
        with Undisturbed(folder, data / "artifacts") as other:
            Replay(exchanges, data, body, other).tell_all()
        names = sorted(row.name for row in Reading(data).campaigns())
        violations = [f"{name}: {difference}" for name in names
                      if (difference := _difference(data, folder, name))]
    except (Differs, FleetfrontError) as error:
        return Finding(rule, 1, (str(error),))
    return Finding(rule, len(names), tuple(violations))


def _difference(disturbed: Path, undisturbed: Path, name: str) -> str | None:
    """None when both fronts are equal, but for where their files lie."""
    found = [_front(directory, name) for directory in (disturbed, undisturbed)]
    if found[0] == found[1]:
        return None
    if isinstance(found[0], str) or isinstance(found[1], str):
        return f"{found[0]}; undisturbed: {found[1]}"
    keys = [key for key in found[0] if found[0][key] != found[1].get(key)]
    return f"they differ in {', '.join(keys)}: {len(found[0]['points'])} points, undisturbed " \
           f"{len(found[1]['points'])}"


def _front(directory: Path, name: str) -> dict[str, Any] | str:
    """The front, or in words why there is none (yet)."""
    try:
        document: dict[str, Any] = Reading(directory).front(name).as_document()
    except UserError as error:
        return str(error)
    for point in (document["baseline"], *document["points"]):
        del point["artifact"]
    return document


class Undisturbed:
    """A shipped coordinator in ``folder``, without builders, that has the same files."""

    def __init__(self, folder: Path, artifacts: Path) -> None:
        shutil.copytree(artifacts, folder / "artifacts")
        self.folder = folder
        self._workers: dict[str, HttpClient] = {}

    def __enter__(self) -> "Undisturbed":
        with (self.folder / "coordinator.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "searcher.api.server", "--dir", str(self.folder),
                 "--builders", "0", "--parent-pid", str(os.getpid())],
                stdout=log, stderr=log, cwd=REPOSITORY)
        ends_s = time.monotonic() + START_S
        while not (self.folder / "coordinator.json").exists():
            if self._process.poll() is not None or time.monotonic() > ends_s:
                raise Differs(f"The undisturbed coordinator does not start: see {self.folder}.")
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
        """Whoever works for ``pool``."""
        if pool not in self._workers:
            name = pool.removeprefix("device:")
            token = self.client.create_enrolment(
                name, "builder" if pool == BUILDER else "agent").token
            secret = enrol(self.client.url, token, name).secret
            self._workers[pool] = HttpClient(self.client.url, secret)
        return self._workers[pool]


class Replay:
    """Tells ``other`` what the journal says the disturbed coordinator was told."""

    def __init__(self, exchanges: Sequence[Exchange], data: Path,
                 body: Callable[[str], bytes | None], other: Undisturbed) -> None:
        self._exchanges, self._data, self._body, self._other = exchanges, data, body, other
        self._results: dict[int, Mapping[str, Any]] = {}
        self._submitted: dict[str, Mapping[str, Any]] = {}
        for one in exchanges:
            if one.is_about("POST", "v1", "jobs") and isinstance(one.request, dict):
                asked = one.request
                key = key_of(asked["kind"], asked["pool"], asked["payload"])
                self._submitted.setdefault(key, asked)

    def tell_all(self) -> None:
        """Raises Differs."""
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
                raise Differs(f"job {job}: its result {sha256[:12]} never was on the wire")
            if key not in self._submitted:
                raise Differs(f"job {job}: nobody asked for it on the wire")
            found.append(Accepted(job, key, pool, content))
        return found

    def _done(self, accepted: Accepted) -> Mapping[str, Any]:
        """Submit, lease and put; the result as the undisturbed coordinator describes it."""
        asked = self._submitted[accepted.key]
        client, worker = self._other.client, self._other.worker(accepted.pool)
        job = client.submit_job(asked["kind"], asked["pool"], asked["payload"],
                                campaign=asked.get("campaign"))
        # The same failures bring the same quarantine, which a keeper ends here, too.
        if accepted.pool != BUILDER:
            Keeper(client).release()
        answer = worker.request("POST", "/v1/lease", encode(LeaseRequest(1, 10.0)))
        lease = decode(Lease, answer.body) if answer.status == 200 else None
        if lease is None or lease.job != job.job:
            raise Differs(f"job {accepted.job}: undisturbed, it cannot be leased")
        send_result(worker, lease.job, lease.attempt, lease.fence, accepted.content)
        return client.wait_job(lease.job).result or {}

    def _trials(self) -> None:
        with open_ledger(self._data / "ledger.db") as db:
            rows = db.execute(
                "SELECT id, campaign, recipe, state FROM trials ORDER BY id").fetchall()
        asked = {(e.part(2), e.request["recipe"]): e.request for e in self._exchanges
                 if e.is_about("POST", "v1", "campaigns", "*", "trials")}
        told = self._tellings()
        measured = measurement_ids(self._exchanges)
        for trial, campaign, recipe, state in rows:
            if (campaign, recipe) not in asked:
                raise Differs(f"trial {trial}: nobody asked for it on the wire")
            request = asked[campaign, recipe]
            new = self._other.client.create_trial(
                campaign, request["device"], Recipe.from_list(request["steps"]),
                parse(TrialParameters, request.get("parameters") or {})).id
            if state == "running":
                continue
            if trial not in told:
                raise Differs(f"trial {trial}: nobody told that it is {state}")
            changes = dict(told[trial])
            old = changes.get("measurement")
            if old is not None:
                changes["measurement"] = self._translated(measured, old)
            self._other.client.tell_trial(new, changes.pop("state"), **changes)

    def _translated(self, measured: Mapping[int, tuple[int, str]], old: int) -> int:
        """The undisturbed coordinator's number of a measurement."""
        job, sha256 = measured.get(old, (0, ""))
        for entry in self._results.get(job, {}).get("measurements", ()):
            if entry["sha256"] == sha256:
                return int(entry["measurement"])
        raise Differs(f"measurement {old} (job {job}, {sha256[:12]}) was told, and is not there")

    def _tellings(self) -> dict[int, Mapping[str, Any]]:
        """The last that was acknowledged; where none was, the last that was sent."""
        found: dict[int, Mapping[str, Any]] = {}
        for acknowledged in (False, True):
            for one in sorted(self._exchanges, key=lambda e: e.sent_s):
                if one.is_about("PUT", "v1", "trials", "*") and isinstance(one.request, dict) \
                        and (one.acknowledged or (not acknowledged and one.status is None)):
                    found[int(one.part(2))] = one.request
        return found

    def _search_states(self) -> dict[tuple[str, str], Any]:
        """The last of each campaign and device."""
        return {(e.part(2), e.part(4)): e.request
                for e in sorted(self._exchanges, key=lambda e: e.sent_s)
                if e.acknowledged
                and e.is_about("PUT", "v1", "campaigns", "*", "search-states", "*")}


def as_json(findings: Sequence[Finding]) -> str:
    return json.dumps([{"rule": f.rule, "checked": f.checked, "violations": f.violations}
                       for f in findings], indent=1)
