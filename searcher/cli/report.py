"""``fleetfront report``: write a self-contained HTML page about a campaign."""

from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory


def command(
    campaign: Annotated[str | None, typer.Argument(help="Required if there are several.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file.")] = Path("report.html"),
    directory: Directory = HERE,
) -> None:
    """Write the report of CAMPAIGN: plots of the front in two and three objectives, and the course
    of the search."""
    from searcher.results.report_html import write_report
    from searcher.results.view import Reading

    write_report(Reading(directory), campaign, output)
    typer.echo(str(output))
