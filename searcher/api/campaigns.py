"""Campaigns and trials, for the search and for people."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response

from searcher.api.access import TheBells, TheCoordinator
from searcher.api.jobs import LONGEST_POLL_S, described
from searcher.api.openapi import refusals
from searcher.api.schemas import (
    CampaignPriority,
    CampaignState,
    Cancellation,
    Document,
    Number,
    Priority,
    TrialCreation,
    TrialTelling,
)
from searcher.coordinator import Coordinator
from searcher.devices import reported
from searcher.errors import ProtocolError
from searcher.ledger import builds, campaigns, jobs, measurements, members, shares, trials
from searcher.ledger.rows import CampaignRow, text
from searcher.recipe import Recipe

router = APIRouter(prefix="/v1", tags=["campaigns"])


def _json(document: dict[str, Any]) -> Response:
    """What comes out of the ledger is plain JSON: FastAPI need not look through it."""
    return Response(text(document), media_type="application/json")


def _with_counts(coordinator: Coordinator, row: CampaignRow) -> dict[str, Any]:
    db = coordinator.store.db
    return {**vars(row), "trials": trials.counts(db, row.name), "jobs": jobs.counts(db, row.name)}


@router.post("/campaigns", responses=refusals(409))
async def submit(
    coordinator: TheCoordinator, spec: Annotated[Document, Body()],
    priority: Priority | None = None,
) -> dict[str, Any]:
    """A new campaign; the same document again is the same campaign, whose priority may change.
    ``warnings`` tells where its devices contradict their profiles."""
    from searcher.campaign import from_document  # numpy and moocore, at submission only

    campaign = from_document(spec)
    name = campaign.name
    known = campaigns.get(coordinator.store.db, name)
    if known is None:
        devices = members.devices(coordinator.store.db)
        coordinator.admission.check_campaign(campaign, devices)
    with coordinator.store.atomic() as db:
        if known is None:
            campaigns.create(db, name, spec, coordinator.clock(), priority or 0)
            shares.enter(db, name)
        elif from_document(known.spec) != campaign:
            differing = sorted(k for k in {*spec, *known.spec} if spec.get(k) != known.spec.get(k))
            raise ProtocolError(
                f"There is another campaign {name!r} already; it differs in "
                f"{', '.join(differing)}. Give this one another name, or use another --dir.", 409
            )
        elif priority is not None:
            campaigns.set_priority(db, name, priority)
    coordinator.campaigns_changed()
    shown = _with_counts(coordinator, coordinator.campaign(name))
    rows = {row.name: row for row in members.devices(coordinator.store.db)}
    warnings = [warning for device in campaign.devices if device in rows
                for warning in reported.warnings(device, rows[device])]
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
    """Ending a campaign cancels its jobs that have not begun; pausing holds them back; ``queued``
    lets it go on. 409 where that does not follow the present state."""
    row = coordinator.set_campaign_state(name, body.state, body.reason, body.baseline)
    return _with_counts(coordinator, row)


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
    """Cancel the campaign's jobs of these kinds that have not begun and that only it wants."""
    return {"cancelled": coordinator.cancel_queued(name, body.kinds)}


@router.get("/campaigns/{name}/finished", responses=refusals(404))
async def finished(
    coordinator: TheCoordinator, bells: TheBells, name: str, after: Number = 0,
    wait_s: Annotated[float, Query(ge=0, le=LONGEST_POLL_S, allow_inf_nan=False)] = 20.0,
) -> dict[str, Any]:
    """Jobs of the campaign that ended after number ``after``, waiting for one if there is none.

    At most 100 at a time; ask again with the returned ``seq``.
    """
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + wait_s
    while True:
        coordinator.campaign(name)
        rows = jobs.finished(coordinator.store.db, name, after)
        left_s = ends_s - loop.time()
        if rows or left_s <= 0 or bells.closing:
            return {
                "jobs": [described(row) for row in rows],
                "seq": (rows[-1].finished_seq or after) if rows else after,
            }
        await bells.wait(f"campaign:{name}", left_s)


@router.post("/campaigns/{name}/trials", responses=refusals(404, 409),
             response_model=dict[str, Any])
async def create_trial(
    coordinator: TheCoordinator, name: str, body: TrialCreation
) -> Response:
    """A running trial, or the one that this recipe already has on this device."""
    recipe = Recipe.from_list(body.steps)
    if recipe.hash != body.recipe:
        raise ProtocolError(f"The steps hash to {recipe.hash}, not to {body.recipe}.")
    coordinator.campaign(name)
    # With the commit of others: a search asks and tells for months, and each commit stops all.
    with coordinator.store.grouped() as db:
        row = trials.find(db, name, body.device, recipe.hash, body.options)
        created = row is None
        if row is None:
            builds.put_recipe(db, recipe.hash, recipe.as_list())
            row = trials.get(db, trials.create(
                db, name, body.device, recipe.hash, body.options, body.parameters,
                coordinator.clock()))
    if row is None:
        raise ProtocolError("The trial was not stored.", 503)
    return _json({**vars(row), "created": created})


@router.put("/trials/{trial}", responses=refusals(404, 409), response_model=dict[str, Any])
async def tell_trial(
    coordinator: TheCoordinator, trial: Number, body: TrialTelling
) -> Response:
    """Set the state and whatever else is given; an ended trial never runs again."""
    changes = body.model_dump(exclude_unset=True, exclude={"state"})
    with coordinator.store.grouped() as db:
        known = trials.get(db, trial)
        if known is None:
            raise ProtocolError(f"There is no trial {trial}.", 404)
        if known.state != "running" and body.state == "running":
            raise ProtocolError(f"Trial {trial} has ended ({known.state}).", 409)
        if body.measurement is not None and measurements.file_of(db, body.measurement) is None:
            raise ProtocolError(f"There is no measurement {body.measurement}.", 409)
        trials.tell(db, trial, body.state, changes, coordinator.clock())
        row = trials.get(db, trial)
    coordinator.ring(f"trials:{known.campaign}")
    return _json(vars(row or known))


@router.get("/campaigns/{name}/trials", responses=refusals(404))
async def trial_history(
    coordinator: TheCoordinator, name: str, device: str | None = None, state: str | None = None,
    after: Number = 0, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """Oldest first; ask again with ``after`` = last id. Each comes with the steps of its recipe,
    and whether its own file was ``measured`` (rather than the graph before training)."""
    coordinator.campaign(name)
    db = coordinator.store.db
    states = trials.STATES if state is None else (state,)
    found = trials.as_json(db, name, device, states, after, limit)
    return Response(f'{{"trials":[{",".join(found)}]}}', media_type="application/json")
