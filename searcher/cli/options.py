"""Options that commands share, and how a document is printed."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searcher.errors import UserError

if TYPE_CHECKING:
    from searcher.client import CoordinatorClient

TOKEN = "FLEETFRONT_TOKEN"


class Format(StrEnum):
    """How a reading command prints."""

    table = "table"
    json = "json"
    csv = "csv"


Directory = Annotated[Path, typer.Option("--dir", help="Folder of the ledger and the files.")]
OutputFormat = Annotated[Format, typer.Option("--format", help="table, json or csv.")]
Url = Annotated[str | None, typer.Option(
    "--url", help=f"Address of a coordinator elsewhere; its token is read from ${TOKEN}.")]
HERE = Path("fleetfront-data")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def client_of(directory: Path, url: str | None) -> "CoordinatorClient":
    """The coordinator at ``url``, or the one that serves ``directory``. Raises UserError."""
    from searcher.client import CoordinatorClient
    from searcher.running import connect

    if url is None:
        return connect(directory)
    token = os.environ.get(TOKEN)
    if not token:
        raise UserError(f"--url {url} needs a token: set the environment variable {TOKEN}. An "
                        "operator makes one with `fleetfront token create`.")
    return CoordinatorClient(url, token)


def duration_s(text: str) -> float:
    """``90s``, ``30m``, ``1h``, ``7d`` in seconds. Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or float(found[1]) == 0.0:
        raise UserError(f"{text!r} is no duration: write 90s, 30m, 1h or 7d.")
    return float(found[1]) * _SECONDS[found[2]]


def ago_text(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    for most, scale, unit in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if seconds < most:
            return f"{max(seconds, 0.0) / scale:.0f} {unit}"
    return f"{seconds / 86_400.0:.0f} d"


def emit(document: Any, rows: Sequence[Mapping[str, Any]], chosen: Format,
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


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A rich table; numbers stand right. A dumb pipe gets the full width."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def time_text(seconds: float) -> str:
    """``26.1 us``, ``1.23 ms``, ``2.00 s``."""
    for scale, unit in ((1e-3, "us"), (1.0, "ms")):
        if seconds < scale:
            return f"{seconds / scale * 1e3:.3g} {unit}"
    return f"{seconds:.3g} s"


def bytes_text(size: float) -> str:
    """``21.3 KB`` with 1 KB = 1000 bytes."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} B"


def share_text(value: float) -> str:
    return f"{value:.2%}"
