"""``fleetfront run``: one campaign in one process tree, until its front is written."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from searcher.documents import parse
from searcher.errors import FleetfrontError, UserError, nearest
from searcher.jobs.check_task import CheckTask, TaskCheck
from searcher.local.forecast import statements
from searcher.local.process_tree import Tree, await_agent, check_disk, log_tail, tree
from searcher.results.front import Front
from searcher.results.status import CampaignStatus
from searcher.results.view import Reading
from searcher.spec.campaign import Campaign, from_document, load, same_request
from searcher.spec.objectives import ENERGY_OBJECTIVES
from searcher.spec.runtime_options import DEFAULT, LOCAL_DEVICE
from searcher.workers.base import cores

Show = Callable[[CampaignStatus, Front | None], None]
Say = Callable[[str], None]


def run_campaign(file: Path, directory: Path, show: Show = lambda status, front: None,
                 workers: str | None = None, say: Say = lambda line: None) -> Front:
    """Run or resume the campaign in ``file``, and write front.json, the report and the files.

    ``show`` is called about once per second, ``say`` with each line of what the campaign will do,
    after the check of its task. ``workers`` is the name of the pool that runs builders. Raises
    UserError.
    """
    campaign = load(file)
    check_before_start(campaign)
    reading = Reading(directory)
    if not has_ended(reading, campaign):
        builders = campaign.builders or max(cores(), 1)
        search = [sys.executable, "-m", "searcher.search.process", "--dir", str(directory),
                  "--campaign", campaign.name, "--parent-pid", str(os.getpid()), "--when-told"]
        execution = campaign.executions[0]
        with tree(directory, builders, True, search, execution.runtime, workers) as processes:
            if execution != DEFAULT or ENERGY_OBJECTIVES & {o.name for o in campaign.objectives}:
                await_agent(processes)
            known = processes.client.create_campaign(campaign.as_dict())
            if known.state in ("paused", "failed", "cancelled"):
                processes.client.set_state(campaign.name, "queued")
            ended = processes.client.finished(campaign.name, wait_s=0.0).seq
            processes.begin("search")
            check = _check_of(processes, campaign.name, ended)
            for line in [] if check is None else statements(
                    campaign, check, builders, shutil.disk_usage(directory).free):
                say(line)
            _watch(processes, reading, campaign.name, show)
    return write_results(reading, campaign.name)


def _check_of(processes: Tree, name: str, ended: int) -> TaskCheck | None:
    """The check of the task that the search has begun with, from the jobs that ended after number
    ``ended``. None when there is none: the search then says why it ends."""
    while processes.children["search"].poll() is None:
        processes.check()
        answer = processes.client.finished(name, ended, wait_s=1.0)
        ended = answer.seq
        for job in answer.jobs:
            if job.kind == CheckTask.name and job.result is not None:
                return parse(TaskCheck, job.result)
    return None


def check_before_start(campaign: Campaign) -> None:
    """Raises UserError for devices other than this machine and for unknown strategies."""
    for device in campaign.devices:
        if device != LOCAL_DEVICE:
            raise UserError(f"Device {device!r}: `fleetfront run` measures on this machine only. "
                            f'Write [[devices]] profile = "{LOCAL_DEVICE}".')
    if len(campaign.devices) > 1:
        raise UserError("A campaign of `fleetfront run` has one device.")
    check_strategies(campaign)


def check_strategies(campaign: Campaign) -> None:
    """Raises UserError for an unknown strategy."""
    from strategies.catalog import names

    for strategy in campaign.search.strategies:
        if strategy not in names():
            raise UserError(f"Unknown strategy {strategy!r} in [search]. "
                            f"{nearest(strategy, names())}")


def has_ended(reading: Reading, campaign: Campaign) -> bool:
    """Whether the ledger contains this campaign and it is done. Raises UserError if its settings
    changed."""
    if not (reading.directory / "ledger.db").exists():
        return False
    for row in reading.campaigns():
        if row.name == campaign.name:
            # Older versions stored fewer settings; missing ones have their defaults.
            if not same_request(from_document(row.spec), campaign):
                raise UserError(
                    f"{reading.directory} holds a campaign {campaign.name!r} with other settings. "
                    "Give this one another name, or name another --dir.")
            return row.state == "done"
    return False


def _watch(processes: Tree, reading: Reading, name: str, show: Show) -> None:
    search = processes.children["search"]
    front, completed = None, -1
    while search.poll() is None:
        processes.check()
        check_disk(processes.directory)
        status = reading.status(name, time.time())
        # Computing the front reads every trial, and only completed trials change it.
        if status.trials["complete"] != completed and reading.search_states(name):
            front, completed = reading.front(name), status.trials["complete"]
        show(status, front)
        with contextlib.suppress(subprocess.TimeoutExpired):
            search.wait(1.0)
    if search.returncode != 0:
        row, _ = reading.campaign(name)
        reason = row.reason or log_tail(processes.directory, "search")
        kind = UserError if search.returncode == 1 else FleetfrontError
        raise kind(f"The campaign {name} failed: {reason}")


def write_results(reading: Reading, name: str) -> Front:
    """Write front.json, report.html and the files of the front into ``DIR/<campaign>/``."""
    from searcher.results.front import save_files
    from searcher.results.report_html import write_report

    folder = reading.directory / name
    folder.mkdir(parents=True, exist_ok=True)
    front = reading.front(name)
    (folder / "front.json").write_text(json.dumps(front.as_document(), indent=2))
    write_report(reading, name, folder / "report.html")
    # The report lists files that `serve --keep` dropped.
    save_files(front, folder / "files")
    return front
