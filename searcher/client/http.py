"""HTTP client of the coordinator, for searches, builders and commands."""

import json
import time
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx

from agents import protocol
from searcher.client.answers import checked
from searcher.client.pinned_tls import (
    checked_fingerprint,
    pinned_context,
    refuse_certificate,
)
from searcher.client.records import (
    Address,
    CampaignRecord,
    Device,
    Enrolment,
    FinishedJobs,
    Job,
    Token,
    Trial,
    TrialPage,
)
from searcher.documents import parse, parse_text, plain
from searcher.errors import FleetfrontError, ProtocolError, UserError
from searcher.ledger.rows import QuietLevelRow, TrialParameters
from searcher.ledger.tables.search_state import SearchState
from searcher.spec.recipe import Recipe
from searcher.spec.scan_result import ScanResult

ADDRESS = "coordinator.json"
"""The file in a coordinator's folder that says how to reach it; its fields are those of
``Address``."""

DeviceState = Literal["active", "draining", "quarantined", "removed"]
TrialState = Literal["running", "complete", "pruned", "failed"]

TRIALS_AT_ONCE = 200
"""Trials per page. Small pages let the coordinator answer other requests between them."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


class Unreachable(FleetfrontError):
    """No coordinator answered within ``retry_for_s``."""


def address_of(directory: Path) -> Address:
    """The address of the coordinator that owns ``directory``. Raises UserError."""
    path = directory / ADDRESS
    try:
        return parse(Address, json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise UserError(
            f"No coordinator serves {directory} ({path.name}: {error}). Start one with "
            f"`fleetfront serve --dir {directory}`, or name another --dir or a --url."
        ) from error


def connect(directory: Path) -> "CoordinatorClient":
    """A client, with the operator's token, of the coordinator that owns ``directory``. Raises
    UserError."""
    address = address_of(directory)
    return CoordinatorClient(address.url, address.token, fingerprint=address.fingerprint)


class CoordinatorClient:
    """Client of one coordinator with one token or secret. Use it from one thread at a time.

    Methods return the records of ``searcher.client.records``. The states of a job are queued,
    leased, done, failed and cancelled.

    A request without an answer, or with the status 503 or 507 (the ledger cannot be written), is
    repeated with increasing pauses for ``retry_for_s``; all requests are idempotent. Methods raise
    Unreachable if there is still no answer, UserError for 400, 401, 403 and 404, DroppedError for
    a dropped file (410), LedgerError for 503 and 507, and ProtocolError for other failures (409,
    413, 426).

    With ``fingerprint``, the coordinator must have the certificate with this fingerprint; without
    it, a certificate signed by an authority that the system trusts.
    """

    def __init__(
        self, url: str, token: str, *, retry_for_s: float = 30.0, timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None, fingerprint: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self._retry_for_s, self._sleep, self._clock = retry_for_s, sleep, clock
        self._timeout_s = timeout_s
        # Without proxies of the environment, which must not see secrets.
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, transport=transport,
            trust_env=False,
            verify=fingerprint is None or pinned_context(checked_fingerprint(fingerprint)),
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> "CoordinatorClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def healthy(self) -> bool:
        """Whether a coordinator answers now. Does not retry."""
        try:
            return self._http.get("/healthz", timeout=5.0).status_code == 200
        except httpx.TransportError:
            return False

    def create_enrolment(
        self, name: str, role: Literal["agent", "builder"] = "agent", profile: str | None = None,
        ttl_s: float = 3600.0,
    ) -> Enrolment:
        return parse(Enrolment, self._json("POST", "/v1/enrolments", {
            "name": name, "role": role, "profile": profile, "ttl_s": ttl_s}))

    def devices(self) -> list[Device]:
        return [parse(Device, row) for row in self._json("GET", "/v1/devices")]

    def set_device_state(
        self, name: str, state: DeviceState, reason: str | None = None
    ) -> Device:
        """Change the state of a device; ``active`` releases it. Raises ProtocolError (409) for a
        state that cannot follow the present one."""
        return parse(Device, self._json(
            "PUT", f"/v1/devices/{name}/state", {"state": state, "reason": reason}))

    def create_token(
        self, name: str, role: Literal["operator", "viewer"], ttl_s: float | None = None
    ) -> Token:
        """Create a token. Only this record contains the secret itself."""
        return parse(Token, self._json(
            "POST", "/v1/tokens", {"name": name, "role": role, "ttl_s": ttl_s}))

    def tokens(self) -> list[Token]:
        return [parse(Token, row) for row in self._json("GET", "/v1/tokens")]

    def revoke_token(self, token_id: str) -> Token:
        return parse(Token, self._json("DELETE", f"/v1/tokens/{token_id}"))

    def lease(self, wait_s: float = 20.0) -> protocol.Lease | None:
        """Lease the next job, for builders and agents. Returns None when there is none within
        ``wait_s``."""
        message = protocol.LeaseRequest(protocol.PROTOCOL_VERSION, wait_s)
        answer = self._send("POST", "/v1/lease", protocol.encode(message), wait_s=wait_s)
        return None if answer.status_code == 204 else protocol.decode(
            protocol.Lease, answer.content)

    def heartbeat(
        self, lease: protocol.Lease, progress: float = 0.0
    ) -> Literal["continue", "cancel"]:
        """Extend a lease. Raises ProtocolError (409) when it is not in force."""
        message = protocol.Heartbeat(lease.job, lease.fence, progress)
        answer = self._send("POST", "/v1/heartbeat", protocol.encode(message))
        verdict = protocol.decode(protocol.HeartbeatAnswer, answer.content).verdict
        return "cancel" if verdict == "cancel" else "continue"

    def put_done(self, lease: protocol.Lease, result: Mapping[str, object]) -> None:
        """Send a result. Raises ProtocolError: 409 when the lease is not in force, 400 for NaN."""
        self._put_result(lease, protocol.ResultEnvelope("done", dict(result)))

    def put_failed(self, lease: protocol.Lease, reason: str, message: str) -> None:
        """Report a failure; ``reason`` is a short stable word. Raises ProtocolError (409)."""
        failure = protocol.Failure(reason, message)._asdict()
        self._put_result(lease, protocol.ResultEnvelope("failed", failure))

    def _put_result(self, lease: protocol.Lease, envelope: protocol.ResultEnvelope) -> None:
        try:
            content = protocol.encode(envelope)
        except protocol.ProtocolError as error:
            raise ProtocolError(f"The result cannot be sent: {error}") from error
        self._send(
            "PUT", f"/v1/results/{lease.job}/{lease.attempt}", content,
            query={"fence": lease.fence},
            headers={"X-Content-Sha256": protocol.content_sha256(content)},
        )

    def create_campaign(
        self, spec: Mapping[str, object], priority: int | None = None
    ) -> CampaignRecord:
        """Create a campaign, or return the one with an equal specification. ``priority`` None keeps
        the priority of an existing campaign, and is 0 for a new one. Raises ProtocolError (409) if
        the name belongs to another specification."""
        query = {} if priority is None else {"priority": priority}
        return parse(CampaignRecord, self._json("POST", "/v1/campaigns", spec, query=query))

    def set_priority(self, name: str, priority: int) -> CampaignRecord:
        """Change the priority of a campaign; higher priorities run first."""
        return parse(CampaignRecord, self._json(
            "PUT", f"/v1/campaigns/{name}/priority", {"priority": priority}))

    def campaign(self, name: str) -> CampaignRecord:
        return parse(CampaignRecord, self._json("GET", f"/v1/campaigns/{name}"))

    def campaigns(self) -> list[CampaignRecord]:
        return [parse(CampaignRecord, row) for row in self._json("GET", "/v1/campaigns")]

    def set_state(self, name: str, state: str, reason: str | None = None) -> CampaignRecord:
        """Change the state of a campaign to queued (also to resume it), running, paused, done,
        failed or cancelled. Raises ProtocolError (409) for a state that cannot follow the present
        one."""
        return parse(CampaignRecord, self._json("PUT", f"/v1/campaigns/{name}/state", {
            "state": state, "reason": reason}))

    def save_search_state(self, name: str, device: str, state: SearchState) -> None:
        """Replace the state of this campaign's search on ``device``. Raises ProtocolError (409)
        unless the campaign is queued or running."""
        self._json("PUT", f"/v1/campaigns/{name}/search-states/{device}", plain(state))

    def submit_job(
        self, kind: str, pool: str, payload: Mapping[str, object], *, campaign: str | None = None,
        priority: int = 0, retry: bool = False, queue_s: float | None = None,
    ) -> Job:
        """Submit a request. Returns its job, new or existing; ``retry`` restarts a failed one. The
        job fails (``queue_timeout``) unless it is leased within ``queue_s``."""
        return parse(Job, self._json("POST", "/v1/jobs", {
            "kind": kind, "pool": pool, "payload": payload, "campaign": campaign,
            "priority": priority, "retry": retry, "queue_s": queue_s}))

    def rebuild(self, sha256: str, campaign: str | None = None) -> Job:
        """Submit the job that builds a dropped file again. It ends with ``result["difference"]``
        None for equal bytes, else with the reason ``different_bytes``. Raises ProtocolError (409)
        for a file without a recipe."""
        query = {} if campaign is None else {"campaign": campaign}
        return parse(Job, self._json("POST", f"/v1/artifacts/{sha256}/rebuild", query=query))

    def wait_job(self, job: int, wait_s: float = 0.0) -> Job:
        """Wait until the job has ended, at most ``wait_s``. Returns its present state."""
        return parse(Job, self._json(
            "GET", f"/v1/jobs/{job}", query={"wait_s": wait_s}, wait_s=wait_s))

    def cancel_queued(self, campaign: str, kinds: Sequence[str] = ()) -> int:
        """Cancel the campaign's queued jobs of ``kinds`` (empty: all). Returns their number."""
        answer = self._json(
            "POST", f"/v1/campaigns/{campaign}/cancellations", {"kinds": list(kinds)})
        return int(answer["cancelled"])

    def finished(self, campaign: str, after: int = 0, wait_s: float = 20.0) -> FinishedJobs:
        """Jobs of ``campaign`` that ended after number ``after``. Waits at most ``wait_s`` for
        one."""
        return parse(FinishedJobs, self._json(
            "GET", f"/v1/campaigns/{campaign}/finished", query={"after": after, "wait_s": wait_s},
            wait_s=wait_s,
        ))

    def create_trial(
        self, campaign: str, device: str, recipe: Recipe,
        parameters: TrialParameters | None = None,
    ) -> Trial:
        """The trial of this recipe on this device: new (``created``) or existing."""
        return parse(Trial, self._json("POST", f"/v1/campaigns/{campaign}/trials", {
            "device": device, "recipe": recipe.hash, "steps": recipe.as_list(), "options": {},
            "parameters": plain(parameters or TrialParameters())}))

    def tell_trial(self, trial: int, state: TrialState, **changes: object) -> Trial:
        """Update a trial. ``changes`` may have values, intervals, constraints, reason, message,
        sha256, evaluations and measurement; other fields keep their values."""
        return parse(Trial, self._json("PUT", f"/v1/trials/{trial}", {"state": state, **changes}))

    def trials(
        self, campaign: str, device: str | None = None, state: str | None = None
    ) -> list[Trial]:
        """All trials, oldest first."""
        found: list[Trial] = []
        chosen = {k: v for k, v in {"device": device, "state": state}.items() if v is not None}
        while True:
            after = found[-1].id if found else 0
            answer = self._send("GET", f"/v1/campaigns/{campaign}/trials", query={
                **chosen, "after": after, "limit": TRIALS_AT_ONCE})
            page = parse_text(TrialPage, answer.content).trials
            found += page
            if len(page) < TRIALS_AT_ONCE:
                return found

    def scans(self, campaign: str) -> dict[str, list[ScanResult]]:
        """What each layer loses when a strategy compresses it alone: one scan per strategy, by
        device."""
        answer = self._send("GET", f"/v1/campaigns/{campaign}/scans")
        return parse_text(dict[str, list[ScanResult]], answer.content)

    def quiet_levels(
        self, device: str | None = None, reference: str | None = None
    ) -> list[QuietLevelRow]:
        """Latency of the reference on each device while the device is quiet, newest first."""
        chosen = {"device": device, "reference": reference}
        return [parse(QuietLevelRow, row) for row in self._json("GET", "/v1/quiet-levels", query={
            k: v for k, v in chosen.items() if v is not None})]

    def artifact(self, sha256: str) -> bytes:
        return self._send("GET", f"/v1/artifacts/{sha256}").content

    def upload_offset(self, sha256: str) -> tuple[int, bool]:
        """Number of bytes of an uploaded file that have arrived, and whether it is complete."""
        return _progress(self._send("HEAD", f"/v1/artifacts/{sha256}", also=(404,)))

    def put_piece(
        self, sha256: str, start: int, piece: bytes, size_bytes: int
    ) -> tuple[int, bool]:
        """Send a non-empty piece. Returns the new offset, and whether the file is complete.

        Raises ProtocolError (409) when bytes before ``start`` are missing or another request
        sends the same file, UserError when the complete file has another digest.
        """
        where = f"bytes {start}-{start + len(piece) - 1}/{size_bytes}"
        answer = self._send(
            "PUT", f"/v1/artifacts/{sha256}", piece,
            headers={"Content-Range": where, "Content-Type": "application/octet-stream"},
            wait_s=600.0)
        return _progress(answer)

    def _json(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *,
        query: Mapping[str, str | int | float] | None = None, wait_s: float = 0.0,
    ) -> Any:
        content = None if body is None else _encoded(body)
        return json.loads(
            self._send(method, path, content, query=query, wait_s=wait_s).content)

    def _send(
        self, method: str, path: str, content: bytes | None = None, *,
        query: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0, also: Container[int] = (),
    ) -> httpx.Response:
        """Send a request, with retries. Returns an answer with status 2xx or one of ``also``."""
        retry_until_s = self._clock() + self._retry_for_s
        pause_s = _FIRST_PAUSE_S
        kind = {"Content-Type": "application/json"} if content is not None else {}
        while True:
            try:
                answer = self._http.request(
                    method, path, content=content, params=dict(query or {}),
                    headers={**kind, **(headers or {})}, timeout=self._timeout_s + wait_s,
                )
            except httpx.TransportError as error:
                refuse_certificate(self.url, error)
                if self._clock() + pause_s > retry_until_s:
                    raise Unreachable(
                        f"The coordinator at {self.url} does not answer "
                        f"({type(error).__name__}: {error}). Is it running?"
                    ) from error
            else:
                if answer.status_code in also:
                    return answer
                if (answer.status_code not in (503, 507)
                        or self._clock() + pause_s > retry_until_s):
                    return checked(answer)
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _progress(answer: httpx.Response) -> tuple[int, bool]:
    return int(answer.headers.get("Upload-Offset", 0)), answer.status_code == 200


def _encoded(body: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError as error:
        raise ProtocolError(f"The request cannot be sent as JSON: {error}.") from error
