"""``fleetfront compare``: two candidates side by side."""

from typing import Annotated, Any

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, print_table


def command(
    campaign: Annotated[str, typer.Argument(help="Name of the campaign.")],
    first: Annotated[str, typer.Argument(help="A candidate's number, or `baseline`.")],
    second: Annotated[str, typer.Argument(help="The one that is compared with it.")],
    directory: Directory = HERE,
    format: OutputFormat = Format.table,
) -> None:
    """Print what SECOND has more or less than FIRST, and whether that is more than chance."""
    from searcher.results.candidate_comparison import compare
    from searcher.results.view import Reading

    document = compare(Reading(directory), campaign, first, second)
    emit(document, document["figures"], format, lambda: print_table(
        f"{document['second']} against {document['first']}",
        ("figure", document["first"], document["second"], "difference", "verdict"),
        [_row(figure) for figure in document["figures"]]))


def _row(figure: dict[str, Any]) -> list[str]:
    change = f"{figure['difference']:+.4g}"
    if figure["interval"] is not None:
        low, high = figure["interval"]
        change += f" [{low:+.4g} .. {high:+.4g}]"
    elif figure["ratio"] is not None:
        change = f"{figure['ratio']:.3g}x"
    return [figure["name"], f"{figure['first']:.6g}", f"{figure['second']:.6g}", change,
            figure["verdict"]]
