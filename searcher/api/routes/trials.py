"""Routes of searches, called thousands of times: ended jobs, and trials."""

import asyncio
from typing import Any

from searcher.api.http.plain_route import (
    Call,
    Described,
    PlainResponse,
    PlainRoute,
    number,
    parameter,
)
from searcher.api.routes.jobs import described
from searcher.api.schemas import FinishedAfter, TrialCreation, TrialTelling, checked
from searcher.documents import plain
from searcher.errors import ProtocolError
from searcher.jobs.results import document_of
from searcher.ledger.rows import text
from searcher.ledger.tables import builds, jobs, measurements, trials
from searcher.spec.recipe import Recipe


async def finished(call: Call) -> PlainResponse:
    """Jobs of the campaign that ended after number ``after``; waits for the first one.

    At most 100 per answer; for the next ones set ``after`` to the returned ``seq``.
    """
    coordinator, notifications = call.state.coordinator, call.state.notifications
    name = call.path["name"]
    asked = checked(FinishedAfter, {key: given[-1] for key, given in call.query.items()}, "query")
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + asked.wait_s
    while True:
        coordinator.campaign(name)
        rows = jobs.finished(coordinator.store.db, name, asked.after)
        left_s = ends_s - loop.time()
        if rows or left_s <= 0 or notifications.closing:
            return _answer({
                "jobs": [described(row) for row in rows],
                "seq": (rows[-1].finished_seq or asked.after) if rows else asked.after})
        await notifications.wait(f"campaign:{name}", left_s)


async def create_trial(call: Call) -> PlainResponse:
    """Create a running trial, or return the trial of this recipe on this device."""
    coordinator, name = call.state.coordinator, call.path["name"]
    body = checked(TrialCreation, document_of(call.body), "body")
    recipe = Recipe.from_list(body.steps)
    if recipe.hash != body.recipe:
        raise ProtocolError(f"The steps hash to {recipe.hash}, not to {body.recipe}.")
    coordinator.campaign(name)
    # Grouped with the writes of others, because a commit blocks all requests.
    with coordinator.store.grouped() as db:
        row = trials.find(db, name, body.device, recipe.hash, body.options)
        created = row is None
        if row is None:
            builds.put_recipe(db, recipe.hash, recipe.as_list())
            row = trials.get(db, trials.create(
                db, name, body.device, recipe.hash, body.options, plain(body.parameters),
                coordinator.clock()))
    if row is None:
        raise ProtocolError("The trial was not stored.", 503)
    return _answer({**plain(row), "created": created})


async def tell_trial(call: Call) -> PlainResponse:
    """Set the state and the given fields. An ended trial cannot run again."""
    coordinator, trial = call.state.coordinator, number("trial", call.path["trial"])
    body = checked(TrialTelling, document_of(call.body), "body")
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
    coordinator.publish(f"trials:{known.campaign}")
    return _answer(plain(row or known))


def _answer(document: dict[str, Any]) -> PlainResponse:
    return PlainResponse(text(document).encode())


def _described(body: dict[str, Any] | None, *parameters: dict[str, Any]) -> Described:
    statuses = (400, 401, 403, 404, 413, 503, 507)
    return Described("campaigns", body, {"type": "object"},
                     statuses if body is None else (*statuses, 409), parameters)


_NAME = parameter("name", "path", type="string")
ROUTES = (
    PlainRoute("GET", "/v1/campaigns/{name}/finished", finished, _described(None, _NAME, *(
        {"name": key, "in": "query", "required": False, "schema": schema}
        for key, schema in FinishedAfter.model_json_schema()["properties"].items()))),
    PlainRoute("POST", "/v1/campaigns/{name}/trials", create_trial, _described(
        TrialCreation.model_json_schema(), _NAME)),
    PlainRoute("PUT", "/v1/trials/{trial}", tell_trial, _described(
        TrialTelling.model_json_schema(), parameter("trial", "path"))),
)
