"""``fleetfront run``: a campaign from file to front, in one process tree."""

from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory


def command(
    campaign: Annotated[Path, typer.Argument(help="A campaign .toml.")],
    directory: Directory = HERE,
    workers: Annotated[str | None, typer.Option(
        metavar="NAME", help="The worker pool that runs builders: process_pool, in_process or "
                             "one that is installed.")] = None,
) -> None:
    """Run CAMPAIGN to its end, or go on where it was stopped: search, measure, front, report."""
    from searcher.cli.front import print_front
    from searcher.cli.progress import Progress
    from searcher.local.run import run_campaign

    with Progress(directory) as progress:
        front = run_campaign(campaign, directory, progress.show, workers)
    print_front(front)
    folder = directory / front.campaign
    typer.echo(f"front   {folder / 'front.json'}\n"
               f"report  {folder / 'report.html'}\n"
               f"files   {folder / 'files'}")
