"""The search process of one campaign: ``python -m searcher.search.process``.

It can be stopped at any time: its state is in the ledger.
"""

import argparse
import functools
import logging
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from profiles.schema import DeviceProfile
from searcher.artifacts import arrays
from searcher.client.http import CoordinatorClient, connect
from searcher.client.upload import upload
from searcher.devices.profile_check import of_campaign
from searcher.devices.target import target_of
from searcher.errors import BuildError, FleetfrontError, ProtocolError, UserError
from searcher.ledger.tables.search_state import FileRef, TaskFacts
from searcher.search import task_check
from searcher.search.device_quality import OnDevice
from searcher.search.device_search import DeviceSearch
from searcher.search.loop import SearchLoop
from searcher.search.payloads import Requests
from searcher.search.recipes.applicable import model_layers, trial_of
from searcher.search.recipes.tables import Parameters
from searcher.search.recipes.warm_starts import earlier_recipes, known_recipes
from searcher.search.sampling import Sampling
from searcher.search.space import Space, unsupported_strategies
from searcher.spec.campaign import Campaign, from_document
from searcher.spec.objectives import resolved
from searcher.spec.runtime_options import check_offered
from searcher.statistics.numerics import why_they_differ
from searcher.tasks.base import Task
from searcher.tasks.catalog import task as task_of
from searcher.tasks.outputs import file_outputs
from searcher.tasks.scored_split import quality_of_metric
from searcher.workers.base import cores
from searcher.workers.parent_death import die_with_parent

log = logging.getLogger(__name__)

PERMANENT = (UserError, BuildError)
"""Errors that a restart of the process would repeat."""
DEFECT = 2
SAMPLES_AT_ONCE = 32


def search(directory: Path, name: str) -> None:
    """Run the search of campaign ``name`` to its end. Errors in ``PERMANENT`` are recorded as its
    failure."""
    with connect(directory) as client:
        try:
            client.set_state(name, "running")
            known = client.campaign(name)
            campaign = from_document(known.spec)
            device, notes = profile_of(client, campaign)
            target = target_of(device)
            checked = task_check.checked(client, campaign, target)
            task = task_of(campaign.task)
            campaign = replace(campaign, objectives=resolved(
                campaign.objectives, quality_of_metric(task.metric)))
            requests = Requests(campaign, target, campaign.executions[0])
            notes += [f"task: {row}" for row in checked.of("warning")]
            formats = campaign.executions[0].formats(device.number_formats)
            notes += [f"{name} is left out: {_no_format(campaign, device, lacking)}"
                      for name, lacking in unsupported_strategies(campaign, formats).items()]
            space = Space.of(campaign, model_layers(task), formats, trial_of(task))
            notes += space.notes
            for note in notes:
                log.warning("%s", note)
            finished = sum(known.trials.values())
            of_device = DeviceSearch(
                requests, campaign.devices[0], space,
                on_device_of(client, campaign, device, task), notes)
            SearchLoop(client, campaign, of_device, Sampling(campaign, space, finished),
                       campaign.builders or cores(), extends="extended" in task.epochs,
                       task=checked.facts, states_epochs=task.states_epochs,
                       first=warm_starts(client, campaign, checked.facts)).run()
        except PERMANENT as error:
            # The coordinator refuses this when the campaign was paused or cancelled meanwhile.
            with suppress(ProtocolError):
                client.set_state(name, "failed", reason=str(error))
            raise


def warm_starts(client: CoordinatorClient, campaign: Campaign, facts: TaskFacts | None
                ) -> Callable[[Space], list[Parameters]]:
    """Parameters of recipes to ask for first: the best of earlier campaigns on the task, then those
    that are known to work."""
    def first(space: Space) -> list[Parameters]:
        if not campaign.search.warm_starts or facts is None:
            return []
        earlier = earlier_recipes(client, facts.digest, campaign.name, campaign.objectives)
        return [*earlier, *known_recipes(space)]
    return first


def _no_format(campaign: Campaign, device: DeviceProfile, lacking: frozenset[str]) -> str:
    names = ", ".join(sorted(lacking))
    if lacking <= device.number_formats:
        return f"{campaign.executions[0]} runs no files in {names}"
    return f"{device.name} has no {names} ({device.sources['number_formats']})"


def profile_of(client: CoordinatorClient, campaign: Campaign) -> tuple[DeviceProfile, list[str]]:
    """The profile of the campaign's device, with the device's own report taking precedence, and
    the contradictions between both. The profile is the one named in the campaign, or the one under
    which the device is enrolled.

    Raises UserError, also when the device does not offer the campaign's runtime options.
    """
    device, execution = campaign.devices[0], campaign.executions[0]
    row = next((row for row in client.devices() if row.name == device), None)
    capabilities = {} if row is None else row.capabilities
    check_offered(execution, device, capabilities)
    found = of_campaign(device, device in campaign.named, None if row is None else row.profile,
                        {} if row is None else row.fingerprint, capabilities)
    return found.profile, [f"{device}: {text}" for text in found.contradictions]


def on_device_of(client: CoordinatorClient, campaign: Campaign, device: DeviceProfile,
                 task: Task) -> OnDevice | None:
    """How to evaluate splits on the device; None when the host computes the same figures. A
    device that is not enrolled yet is the agent of ``run`` on this machine."""
    shares_host = all(row.shares_host for row in client.devices()
                      if row.name == campaign.devices[0])
    why = why_they_differ(device, campaign.executions[0], shares_host, platform.machine())
    if why is None:
        return None
    outputs = file_outputs(task, next(task.samples("validation").batches(1)).inputs)
    # The others are not judged, and may be large.
    asked = (outputs.judged,) if len(outputs.names) > 1 else ()
    return OnDevice(why, functools.cache(functools.partial(_sent_inputs, client, task)), asked)


def _sent_inputs(client: CoordinatorClient, task: Task, split: str) -> FileRef:
    """Upload the inputs of a split to the coordinator, written a few samples at a time."""
    samples = task.samples(split)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inputs"
        try:
            arrays.write_batches(file, task.input_names, len(samples), (
                [tensor.numpy() for tensor in batch.inputs]
                for batch in samples.batches(SAMPLES_AT_ONCE)))
        except ValueError as error:
            raise UserError(f"The {split} split cannot be sent to a device: {error}. Bring all "
                            "samples to one shape and type.") from error
        return FileRef(upload(client, file), file.stat().st_size)


def main() -> None:
    """Exit code 1: the user must correct something first. Exit code 2: a restart may succeed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--campaign", required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--when-told", action="store_true",
                        help="wait for a line on stdin before the search starts")
    arguments = parser.parse_args()
    die_with_parent(arguments.parent_pid)
    if arguments.when_told and not sys.stdin.readline():
        return
    try:
        search(arguments.dir, arguments.campaign)
    except FleetfrontError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1 if isinstance(error, PERMANENT) else DEFECT)
    except Exception:  # noqa: BLE001  process boundary: Python would exit with the code of a user's error
        traceback.print_exc()
        sys.exit(DEFECT)


if __name__ == "__main__":
    main()
