"""Files that were dropped to bound the disk: which a front lacks, and having them built again."""

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
    """Have the files (candidate and sha256) built again and wait for all of them.

    Raises UserError that names those which cannot be built again, and why.
    """
    failed = []
    asked: dict[str, Job] = {}
    for name, sha256 in files.items():
        try:
            asked[name] = client.rebuild(sha256)
        except FleetfrontError as error:
            failed.append(f"{name}: {error}")
    for name, job in asked.items():
        say(f"{name}: its file {files[name]} is not there; it is built again")
        while not job.has_ended:
            job = client.wait_job(job.job, WAIT_S)
        if job.state != "done" or (job.result or {}).get("sha256") != files[name]:
            failed.append(f"{name}: {job.why}")
    if failed:
        raise UserError("Not every file could be built again. " + " ".join(failed))


def how_to_get(directory: Path, files: Mapping[str, str], folder: Path) -> str:
    """What to do about missing files while no coordinator serves ``directory``."""
    named = ", ".join(f"{name} ({sha256})" for name, sha256 in files.items())
    text = (f"Not in {directory / 'artifacts'}, dropped to keep the disk within --keep or lost: "
            f"{named}. Serve the folder (fleetfront serve --dir {directory}) and run this again: "
            "they are built again then.")
    for name in files:
        if "/" in name:
            return (f"{text} Or build one by its recipe: fleetfront build {name} --dir {directory} "
                    f"-o {folder / name.replace('/', '-')}")
    return text
