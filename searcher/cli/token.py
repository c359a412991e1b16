"""``fleetfront token``: long-lived tokens of people and programs."""

import time
from enum import StrEnum
from typing import Annotated

import typer

from searcher.cli.durations import duration_s
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


class Role(StrEnum):
    """What a token permits: all actions of people, or reading only."""

    operator = "operator"
    viewer = "viewer"


app = typer.Typer(no_args_is_help=True, help="Tokens of people and programs: create, list, revoke.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Person or program that will use the token.")],
    role: Annotated[Role, typer.Option(help="operator, or viewer (read only).")],
    ttl: Annotated[str | None, typer.Option(
        help="Validity: 12h, 90d. By default the token does not expire.")] = None,
    directory: Directory = HERE,
    url: Url = None,
) -> None:
    """Print a new token for NAME. It is shown only once; the ledger stores its hash."""
    with client_of(directory, url) as client:
        made = client.create_token(
            name, role.value, None if ttl is None else duration_s(ttl))
    typer.echo(made.token)
    typer.echo(f"Token {made.id} of {name} ({role.value}). It is not shown again; revoke it "
               f"with `fleetfront token revoke {made.id}`.", err=True)


@app.command("list")
def list_(
    directory: Directory = HERE, url: Url = None, format: OutputFormat = Format.table
) -> None:
    """List the tokens without their secrets, newest first."""
    from searcher.documents import plain

    with client_of(directory, url) as client:
        rows = [{key: value for key, value in plain(token).items() if key != "token"}
                for token in client.tokens()]
    columns = ("id", "name", "role", "state", "created_s", "expires_s")
    emit(rows, rows, format, lambda: print_table("tokens", (
        "id", "name", "role", "state", "created", "expires"),
        [[_cell(name, row[name]) for name in columns] for row in rows]))


def _cell(name: str, value: object) -> str:
    if value is None:
        return "never"
    if name.endswith("_s") and isinstance(value, float | int):
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value))
    return str(value)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Id, as shown by `fleetfront token list`.")],
    directory: Directory = HERE,
    url: Url = None,
) -> None:
    """Revoke the token with this id."""
    with client_of(directory, url) as client:
        row = client.revoke_token(token)
    typer.echo(f"{row.id}: {row.name} ({row.role}) is revoked")
