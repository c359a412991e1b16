"""``fleetfront run``: run one campaign in one process tree."""

from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory


def command(
    campaign: Annotated[Path, typer.Argument(help="A campaign .toml.")],
    directory: Directory = HERE,
    workers: Annotated[str | None, typer.Option(
        metavar="NAME", help="Worker pool that runs builders: process_pool, in_process or an "
                             "installed one.")] = None,
) -> None:
    """Run or continue CAMPAIGN to its end: search, measure, write front and report."""
    from searcher.cli.front import print_front
    from searcher.cli.progress import Progress
    from searcher.local.run import run_campaign

    with Progress(directory) as progress:
        front = run_campaign(campaign, directory, progress.show, workers, progress.say)
    print_front(front)
    folder = directory / front.campaign
    typer.echo(f"front   {folder / 'front.json'}\n"
               f"report  {folder / 'report.html'}\n"
               f"files   {folder / 'files'}")
