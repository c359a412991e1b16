"""``fleetfront report``: one self-contained page about a campaign."""

from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory


def command(
    campaign: Annotated[str | None, typer.Argument(help="Needed when there are several.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("report.html"),
    directory: Directory = HERE,
) -> None:
    """Write the report of CAMPAIGN: the front in two and three objectives, and how it was got."""
    from searcher.results.report_html import write_report
    from searcher.results.view import Reading

    write_report(Reading(directory), campaign, output)
    typer.echo(str(output))
