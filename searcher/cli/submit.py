"""``fleetfront submit``: submit a campaign to a daemon."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from searcher.cli.options import HERE, Directory, Url, client_of

if TYPE_CHECKING:
    from searcher.client.http import CoordinatorClient

POLL_EVERY_S = 2.0


def command(
    campaign: Annotated[Path, typer.Argument(help="A campaign .toml.")],
    directory: Directory = HERE,
    url: Url = None,
    priority: Annotated[int | None, typer.Option(
        min=-1000, max=1000, help="Campaigns with higher priority run first; default 0. "
                                  "Submit again to change it.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Print changes until the end.")] = False,
    check: Annotated[bool, typer.Option(
        "--check/--no-check", help="Let a builder of the daemon check the task first.")] = True,
) -> None:
    """Submit CAMPAIGN to a daemon and print its name and state.

    A new campaign whose task has errors is not submitted.
    """
    from searcher.local.run import check_strategies
    from searcher.local.submission import check_task
    from searcher.spec.campaign import load
    from searcher.workers.base import cores

    document = load(campaign)
    check_strategies(document)
    with client_of(directory, url) as client:
        if check and all(known.name != document.name for known in client.campaigns()):
            builders = document.builders or (cores() if url is None else 1)
            check_task(client, document, builders, lambda line: typer.echo(line, err=True))
        row = client.create_campaign(document.as_dict(), priority)
        for warning in row.warnings:
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(f"{row.name}: {row.state}, priority {row.priority}")
        if wait:
            follow(client, row.name, typer.echo)


def follow(
    client: "CoordinatorClient", name: str, say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Report changes until the campaign ends. Raises UserError when it ends without a front."""
    from searcher.errors import UserError

    said = ""
    while True:
        row = client.campaign(name)
        counts = ", ".join(f"{count} {state}" for state, count in row.trials.items())
        if said != (said := f"{name}: {row.state}, {counts}"):
            say(said)
        if row.state in ("failed", "cancelled"):
            raise UserError(f"The campaign {name} is {row.state}: {row.reason or 'on request'}")
        if row.state == "done":
            return
        sleep(POLL_EVERY_S)
