"""Routes of campaigns and their trials, for searches and people."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response

from searcher.api.access import TheCoordinator
from searcher.api.openapi import refusals
from searcher.api.schemas import (
    CampaignPriority,
    CampaignState,
    Cancellation,
    Document,
    Name,
    Number,
    Priority,
)
from searcher.devices import profile_check
from searcher.dispatch.coordinator import Coordinator
from searcher.documents import plain
from searcher.errors import ProtocolError
from searcher.ledger.rows import CampaignRow
from searcher.ledger.tables import campaigns, fair_share, jobs, search_state, trials
from searcher.ledger.tables import devices as device_table
from searcher.ledger.tables.search_state import SearchState
from searcher.results.scans import scans_of
from searcher.spec.scan_result import ScanResult

router = APIRouter(prefix="/v1", tags=["campaigns"])


def _with_counts(coordinator: Coordinator, row: CampaignRow) -> dict[str, Any]:
    db = coordinator.store.db
    states = search_state.of_campaign(db, row.name)
    return {**vars(row), "trials": trials.counts(db, row.name), "jobs": jobs.counts(db, row.name),
            "failures": trials.failures(db, row.name),
            "search_states": {device: plain(state) for device, state in states.items()}}


@router.post("/campaigns", responses=refusals(409))
async def submit(
    coordinator: TheCoordinator, spec: Annotated[Document, Body()],
    priority: Priority | None = None,
) -> dict[str, Any]:
    """Create a campaign. The same document again refers to the same campaign and may change its
    priority. ``warnings`` says where its devices contradict their profiles."""
    from searcher.spec.campaign import (  # numpy, moocore: only when needed
        from_document,
        same_request,
    )

    campaign = from_document(spec)
    name = campaign.name
    known = campaigns.get(coordinator.store.db, name)
    if known is None:
        devices = device_table.devices(coordinator.store.db)
        coordinator.admission.check_campaign(campaign, devices)
    with coordinator.store.atomic() as db:
        if known is None:
            campaigns.create(db, name, spec, coordinator.clock(), priority or 0)
            fair_share.enter(db, name)
        elif not same_request(from_document(known.spec), campaign):
            differing = sorted(k for k in {*spec, *known.spec} if spec.get(k) != known.spec.get(k))
            raise ProtocolError(
                f"There is already another campaign {name!r}; it differs in "
                f"{', '.join(differing)}. Use another name or another --dir.", 409
            )
        elif priority is not None:
            campaigns.set_priority(db, name, priority)
    coordinator.campaigns_changed()
    shown = _with_counts(coordinator, coordinator.campaign(name))
    rows = {row.name: row for row in device_table.devices(coordinator.store.db)}
    warnings = [warning for device in campaign.devices if device in rows
                for warning in profile_check.warnings(device, rows[device])]
    return {**shown, "warnings": warnings}


@router.get("/campaigns")
async def history(coordinator: TheCoordinator) -> list[dict[str, Any]]:
    """Newest first, at most 200."""
    return [_with_counts(coordinator, row) for row in campaigns.history(coordinator.store.db)]


@router.get("/campaigns/{name}", responses=refusals(404))
async def campaign(coordinator: TheCoordinator, name: str) -> dict[str, Any]:
    return _with_counts(coordinator, coordinator.campaign(name))


@router.put("/campaigns/{name}/state", responses=refusals(404, 409))
async def set_state(coordinator: TheCoordinator, name: str, body: CampaignState) -> dict[str, Any]:
    """Change the state of a campaign. An end cancels its queued jobs, a pause holds them back,
    ``queued`` resumes it. 409 if the present state does not allow the change."""
    row = coordinator.set_campaign_state(name, body.state, body.reason)
    return _with_counts(coordinator, row)


@router.put("/campaigns/{name}/search-states/{device}", responses=refusals(404, 409))
async def save_search_state(
    coordinator: TheCoordinator, name: str, device: Name, body: SearchState
) -> dict[str, bool]:
    """Save the checkpoint of a search. 409 unless the campaign is running: a stopping search must
    not save any further state."""
    coordinator.save_search_state(name, device, body)
    return {"saved": True}


@router.put("/campaigns/{name}/priority", responses=refusals(404))
async def set_priority(
    coordinator: TheCoordinator, name: str, body: CampaignPriority
) -> dict[str, Any]:
    """Campaigns of a higher priority are searched, built and measured first."""
    coordinator.campaign(name)
    with coordinator.store.atomic() as db:
        campaigns.set_priority(db, name, body.priority)
    coordinator.campaigns_changed()
    return _with_counts(coordinator, coordinator.campaign(name))


@router.post("/campaigns/{name}/cancellations", responses=refusals(404))
async def cancel_queued(
    coordinator: TheCoordinator, name: str, body: Cancellation
) -> dict[str, Any]:
    """Cancel the campaign's queued jobs of these kinds for which no other campaign waits."""
    return {"cancelled": coordinator.cancel_queued(name, body.kinds)}


@router.get("/campaigns/{name}/scans", responses=refusals(404))
async def scans(coordinator: TheCoordinator, name: str) -> dict[str, tuple[ScanResult, ...]]:
    """What each layer loses when a strategy compresses it alone: one scan per strategy, by device.
    A device is missing until its baseline is measured."""
    coordinator.campaign(name)
    db = coordinator.store.db
    return {device: scans_of(db, state)
            for device, state in search_state.of_campaign(db, name).items()}


@router.get("/campaigns/{name}/trials", responses=refusals(404))
async def trial_history(
    coordinator: TheCoordinator, name: str, device: str | None = None, state: str | None = None,
    after: Number = 0, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """Trials, oldest first; for the next page set ``after`` to the last id. Each has the steps of
    its recipe and ``measured``: its own file was measured, not only the untrained graph."""
    coordinator.campaign(name)
    db = coordinator.store.db
    states = trials.STATES if state is None else (state,)
    found = trials.as_json(db, name, device, states, after, limit)
    return Response(f'{{"trials":[{",".join(found)}]}}', media_type="application/json")
