"""``fleetfront campaigns``: list campaigns and their progress."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from searcher.cli.options import (
    HERE,
    Directory,
    Format,
    OutputFormat,
    Url,
    client_of,
    emit,
    print_table,
)

if TYPE_CHECKING:
    from searcher.results.status import CampaignStatus

COLUMNS = ("campaign", "state", "priority", "complete", "pruned", "failed", "running", "reason")


def command(
    directory: Directory = HERE,
    url: Url = None,
    format: OutputFormat = Format.table,
) -> None:
    """List the campaigns of a folder or daemon, newest first."""
    found = statuses(directory, url)
    rows = [status.as_row() for status in found]
    emit([status.as_document() for status in found], rows, format,
         lambda: print_table("campaigns", COLUMNS, [
             ["" if row[c] is None else str(row[c]).splitlines()[0] for c in COLUMNS]
             for row in rows]))


def statuses(directory: Path, url: str | None) -> list["CampaignStatus"]:
    """The status of every campaign, newest first. Raises UserError."""
    from searcher.results.status import status_of
    from searcher.spec.campaign import from_document

    if url is None:
        return _in_the_ledger(directory)
    with client_of(directory, url) as client:
        return [status_of(row, row.trials, row.failures, row.search_states,
                          from_document(row.spec).budget, time.time())
                for row in client.campaigns()]


def _in_the_ledger(directory: Path) -> list["CampaignStatus"]:
    from searcher.ledger.read_only import open_ledger
    from searcher.ledger.tables import campaigns
    from searcher.results.status import stored_status

    with open_ledger(directory / "ledger.db") as db:
        return [stored_status(db, row, time.time()) for row in campaigns.history(db)]


def of_name(found: list["CampaignStatus"], name: str | None, where: str) -> "CampaignStatus":
    """The status of the campaign ``name``; without a name, of the only one. Raises UserError."""
    from searcher.errors import UserError, nearest

    known = {status.campaign: status for status in found}
    if name is None and len(known) == 1:
        return found[0]
    if name is None:
        raise UserError(f"Name a campaign of {where}. {nearest('', known)}")
    if name not in known:
        raise UserError(f"No campaign {name!r} in {where}. {nearest(name, known)}")
    return known[name]


def change(name: str, state: str, directory: Path, url: str | None) -> None:
    """Ask a daemon to change the state of a campaign, and print the new state."""
    with client_of(directory, url) as client:
        row = client.set_state(name, state)
    typer.echo(f"{row.name}: {row.state}")
