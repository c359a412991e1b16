"""The check of a campaign's task before its baseline, and again when the campaign is resumed."""

import secrets
from collections.abc import Callable, Mapping

from searcher.client.http import CoordinatorClient
from searcher.client.jobs import run_job
from searcher.errors import BuildError, UserError
from searcher.jobs.check_task import CheckTaskRequest, TaskCheck
from searcher.ledger.tables.search_state import TaskFacts
from searcher.search.payloads import BASELINE
from searcher.spec.campaign import Campaign
from strategies.target import Target


def checked(client: CoordinatorClient, campaign: Campaign, target: Target) -> TaskCheck:
    """Let a builder check the task now: its data may have changed since an earlier check.

    Raises UserError with every row that is an error, and when the task has changed since the
    campaign began; BuildError when the check itself did not end.
    """
    known = client.campaign(campaign.name).search_states.get(campaign.devices[0])
    request = CheckTaskRequest(campaign.task, campaign.seed, target, secrets.randbelow(2**31))
    job = run_job(client, request, campaign=campaign.name, priority=BASELINE)
    found = job.result
    if found is None:
        raise (UserError if job.reason == "user" else BuildError)(
            f"The task {campaign.task!r} could not be checked: {job.why}")
    if found.facts is None:
        raise UserError(refusal(campaign.task, found))
    before = None if known is None else known.task
    if before is not None and before.digest != found.facts.digest:
        raise UserError(changed(campaign.task, campaign.name, before, found.facts))
    return found


def refusal(task: str, check: TaskCheck) -> str:
    """The message of a task with errors: one line per row."""
    lines = "".join(f"\n  {row}" for row in check.of("error"))
    return f"The task {task!r} cannot be used:{lines}\n`fleetfront tasks check {task}` shows all."


def changed(task: str, campaign: str, before: TaskFacts, now: TaskFacts) -> str:
    """The message of a task that is not the one with which the campaign began."""
    changes = _changes(before.parts, now.parts, _part)
    changes += _changes(before.samples, now.samples, lambda split: f"the number of {split} samples")
    what = ", ".join(dict.fromkeys(changes)) or "its identity"
    return (f"The task {task!r} has changed since the campaign {campaign!r} began: {what}. "
            "The candidates so far were built from the old task and cannot be compared with new "
            f"ones. Restore the task (digest {before.digest[:12]}, now {now.digest[:12]}), or give "
            "the campaign another name.")


def _part(name: str) -> str:
    return f"the {name} data" if name in ("training", "validation", "test") else f"the {name}"


def _changes(before: Mapping[str, object], now: Mapping[str, object],
             words: Callable[[str], str]) -> list[str]:
    """What differs, in words, with the values where they are numbers."""
    found = []
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if old != new:
            counts = f" ({old}, now {new})" if isinstance(old, int) else ""
            found.append(words(name) + counts)
    return found
