"""Rebuilds of files that the coordinator dropped to bound its disk usage."""

from collections.abc import Callable, Mapping
from pathlib import Path

from searcher.client.http import CoordinatorClient
from searcher.client.records import Job
from searcher.errors import FleetfrontError, UserError

WAIT_S = 20.0


def have_built(
    client: CoordinatorClient, files: Mapping[str, str],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Build files (candidate -> sha256) again, and wait for all of them.

    Raises UserError with each file that cannot be built again, and the reason.
    """
    failed = []
    asked: dict[str, Job] = {}
    for name, sha256 in files.items():
        try:
            asked[name] = client.rebuild(sha256)
        except FleetfrontError as error:
            failed.append(f"{name}: {error}")
    for name, job in asked.items():
        say(f"{name}: building the dropped file {files[name]} again")
        while not job.has_ended:
            job = client.wait_job(job.job, WAIT_S)
        if job.state != "done" or (job.result or {}).get("sha256") != files[name]:
            failed.append(f"{name}: {job.why}")
    if failed:
        raise UserError("Some files could not be built again. " + " ".join(failed))


def how_to_get(directory: Path, files: Mapping[str, str], folder: Path) -> str:
    """Message about missing files while no coordinator serves ``directory``, with what to do."""
    named = ", ".join(f"{name} ({sha256})" for name, sha256 in files.items())
    text = (f"Not in {directory / 'artifacts'}, dropped to keep the disk within --keep or lost: "
            f"{named}. Serve the folder (fleetfront serve --dir {directory}) and repeat the "
            "command: it builds them again.")
    for name in files:
        if "/" in name:
            out = folder / name.replace("/", "-")
            return (f"{text} Or build one from its recipe: "
                    f"fleetfront build {name} --dir {directory} -o {out}")
    return text
