"""``fleetfront campaigns``: what there is and how far it is."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

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

COLUMNS = ("campaign", "state", "priority", "complete", "pruned", "failed", "running", "reason")


def command(
    directory: Directory = HERE,
    url: Url = None,
    format: OutputFormat = Format.table,
) -> None:
    """List the campaigns of a folder or daemon, the newest first."""
    from searcher.results.status import flat

    documents = standings(directory, url)
    rows = [flat(document) for document in documents]
    emit(documents, rows, format, lambda: print_table("campaigns", COLUMNS, [
        ["" if row[c] is None else str(row[c]).splitlines()[0] for c in COLUMNS] for row in rows]))


def standings(directory: Path, url: str | None) -> list[dict[str, Any]]:
    """The ``status`` document of every campaign, the newest first. Raises UserError."""
    from searcher.results.status import standing
    from searcher.spec.campaign import from_document

    if url is None:
        rows = [(asdict(row), counted) for row, counted in _in_the_ledger(directory)]
    else:
        with client_of(directory, url) as client:
            rows = [(row, row["trials"]) for row in client.campaigns()]
    return [standing(row, counted, from_document(row["spec"]).budget, time.time())
            for row, counted in rows]


def _in_the_ledger(directory: Path) -> list[tuple[Any, dict[str, int]]]:
    from searcher.ledger.read_only import open_ledger
    from searcher.ledger.tables import campaigns, trials

    with open_ledger(directory / "ledger.db") as db:
        return [(row, trials.counts(db, row.name)) for row in campaigns.history(db)]


def of_name(documents: list[dict[str, Any]], name: str | None, where: str) -> dict[str, Any]:
    """The one called ``name``; without a name, the only one. Raises UserError."""
    from searcher.errors import UserError, nearest

    known = {document["campaign"]: document for document in documents}
    if name is None and len(known) == 1:
        return documents[0]
    if name is None:
        raise UserError(f"Name a campaign of {where}. {nearest('', known)}")
    if name not in known:
        raise UserError(f"No campaign {name!r} in {where}. {nearest(name, known)}")
    return known[name]


def change(name: str, state: str, directory: Path, url: str | None) -> None:
    """Ask a daemon to bring a campaign into ``state``, and print what it is in then."""
    with client_of(directory, url) as client:
        row = client.set_state(name, state)
    typer.echo(f"{row['name']}: {row['state']}")
