"""``fleetfront upload``: upload a file to a coordinator, which stores it by its sha256."""

from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory, Url, client_of, news_line


def command(
    file: Annotated[Path, typer.Argument(help="An .onnx file, or a file of a data set.")],
    directory: Directory = HERE,
    url: Url = None,
) -> None:
    """Upload FILE, or the missing rest of it, and print its sha256."""
    from searcher.client.upload import upload

    say = news_line()
    with client_of(directory, url) as client:
        typer.echo(upload(client, file, lambda sent, of: say(f"{sent * 10 // of * 10} % sent")))
