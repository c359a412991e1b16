"""Options that several commands share, and output formats."""

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from searcher.client.http import CoordinatorClient


class Format(StrEnum):
    """Output format of commands that read."""

    table = "table"
    json = "json"
    csv = "csv"


Directory = Annotated[Path, typer.Option("--dir", help="Folder of the ledger and the files.")]
Url = Annotated[str | None, typer.Option(
    "--url", help="URL of a daemon, instead of --dir; the token is in FLEETFRONT_TOKEN.")]
OutputFormat = Annotated[Format, typer.Option("--format", help="table, json or csv.")]
HERE = Path("fleetfront-data")


def client_of(directory: Path, url: str | None) -> "CoordinatorClient":
    """The client of the daemon at ``url``, or of the coordinator that serves ``directory``.

    Raises UserError. For a ``url``, the token is in FLEETFRONT_TOKEN, and the fingerprint of a
    self-signed certificate in FLEETFRONT_FINGERPRINT.
    """
    from searcher.client.http import CoordinatorClient, connect
    from searcher.errors import UserError

    if url is None:
        return connect(directory)
    if not url.startswith(("http://", "https://")):
        raise UserError(f"--url {url!r} must start with https:// or http://.")
    token = os.environ.get("FLEETFRONT_TOKEN", "").strip()
    if not token:
        raise UserError(f"--url {url} needs a token: set FLEETFRONT_TOKEN to one from the "
                        "daemon's operator.")
    fingerprint = os.environ.get("FLEETFRONT_FINGERPRINT") or None
    return CoordinatorClient(url.rstrip("/"), token, fingerprint=fingerprint)


def news_line() -> Callable[[str], None]:
    """Print progress messages to the error stream, without repetitions."""
    last = ""

    def say(text: str) -> None:
        nonlocal last
        if text != last:
            typer.echo(text, err=True)
        last = text

    return say


def emit(document: object, rows: Sequence[Mapping[str, object]], chosen: Format,
         table: Callable[[], None]) -> None:
    """Print ``document`` as JSON, ``rows`` as CSV, or call ``table``."""
    if chosen is Format.json:
        typer.echo(json.dumps(document, indent=2))
    elif chosen is Format.csv:
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in rows for key in row))
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        typer.echo(text.getvalue(), nl=False)
    else:
        table()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]],
                justify: Literal["left", "right"] = "right") -> None:
    """Print a rich table with right-aligned numbers, or left-aligned text. Its width is 200 columns
    when the output is not a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else justify, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


