"""``fleetfront compare``: compare two candidates."""

from typing import TYPE_CHECKING, Annotated

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, print_table

if TYPE_CHECKING:
    from searcher.results.candidate_comparison import ComparedFigure


def command(
    campaign: Annotated[str, typer.Argument(help="Name of the campaign.")],
    first: Annotated[str, typer.Argument(help="A candidate's number, or `baseline`.")],
    second: Annotated[str, typer.Argument(help="The candidate to compare with FIRST.")],
    directory: Directory = HERE,
    format: OutputFormat = Format.table,
) -> None:
    """Print the differences of SECOND from FIRST, and whether each is larger than chance
    explains."""
    from searcher.results.candidate_comparison import compare
    from searcher.results.view import Reading

    found = compare(Reading(directory), campaign, first, second)
    rows = [{**vars(figure), "interval": figure.interval and list(figure.interval)}
            for figure in found.figures]
    emit(found.as_document(), rows, format, lambda: print_table(
        f"{found.second} against {found.first} (accuracy computed on {found.accuracy_place})",
        ("figure", found.first, found.second, "difference", "verdict"),
        [_row(figure) for figure in found.figures]))


def _row(figure: "ComparedFigure") -> list[str]:
    change = f"{figure.difference:+.4g}"
    if figure.interval is not None:
        low, high = figure.interval
        change += f" [{low:+.4g} .. {high:+.4g}]"
    elif figure.ratio is not None:
        change = f"{figure.ratio:.3g}x"
    return [figure.name, f"{figure.first:.6g}", f"{figure.second:.6g}", change, figure.verdict]
