"""``fleetfront upload``: a file for a coordinator, known by its sha256 from then on."""

from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory, Url, client_of, news_line


def command(
    file: Annotated[Path, typer.Argument(help="An .onnx file, or a file of a data set.")],
    directory: Directory = HERE,
    url: Url = None,
) -> None:
    """Send FILE to a coordinator, or the rest of it, and print its sha256."""
    from searcher.client.upload import upload

    say = news_line()
    with client_of(directory, url) as client:
        typer.echo(upload(client, file, lambda sent, of: say(f"{sent * 10 // of * 10} % sent")))
