"""The check of a task by a daemon's builders, before ``fleetfront submit`` submits its campaign."""

import secrets
from collections.abc import Callable

from searcher.client.http import CoordinatorClient
from searcher.client.jobs import run_job
from searcher.devices.profile_check import of_campaign
from searcher.devices.target import target_of
from searcher.errors import UserError
from searcher.jobs.check_task import CheckTaskRequest
from searcher.local.forecast import statements
from searcher.search.task_check import refusal
from searcher.spec.campaign import Campaign
from strategies.target import Target

WAIT_FOR_BUILDER_S = 10.0
PRIORITY = 50


def check_task(client: CoordinatorClient, campaign: Campaign, builders: int,
               say: Callable[[str], None], queue_s: float = WAIT_FOR_BUILDER_S) -> None:
    """Let a builder of the daemon check the task, and say what the campaign will do.

    Raises UserError when the task has errors. If no builder is free within ``queue_s``, it says so
    and returns: the search checks the task before its baseline. Returns too for a device without a
    profile, which the daemon refuses in its own words.
    """
    try:
        target = _target(client, campaign)
    except UserError:
        return
    request = CheckTaskRequest(campaign.task, campaign.seed, target, secrets.randbelow(2**31))
    job = run_job(client, request, priority=PRIORITY, queue_s=queue_s)
    if job.result is None:
        if job.reason == "user":
            raise UserError(job.why)
        say(f"warning: the task was not checked ({job.why}). The search checks it when it begins.")
    elif job.result.facts is None:
        raise UserError(refusal(campaign.task, job.result))
    else:
        for line in statements(campaign, job.result, builders):
            say(line)


def _target(client: CoordinatorClient, campaign: Campaign) -> Target:
    """What the campaign's device loads, by its own report where it is enrolled."""
    name = campaign.devices[0]
    row = next((row for row in client.devices() if row.name == name), None)
    found = of_campaign(name, name in campaign.named, None if row is None else row.profile,
                        {} if row is None else row.fingerprint,
                        {} if row is None else row.capabilities)
    return target_of(found.profile)
