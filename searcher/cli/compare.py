"""``fleetfront compare``: compare two candidates."""

from typing import TYPE_CHECKING, Annotated

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, print_table
from searcher.results.formatting import direction_text, lost_interval_text, lost_text

if TYPE_CHECKING:
    from searcher.results.candidate_comparison import CandidateComparison, ComparedFigure
    from searcher.results.class_losses import ClassLoss


def command(
    campaign: Annotated[str, typer.Argument(help="Name of the campaign.")],
    first: Annotated[str, typer.Argument(help="A candidate's number, or `baseline`.")],
    second: Annotated[str, typer.Argument(help="The candidate to compare with FIRST.")],
    directory: Directory = HERE,
    format: OutputFormat = Format.table,
) -> None:
    """Print the differences of SECOND from FIRST, whether each is larger than chance explains, and
    the class or group of samples that lost most."""
    from searcher.results.candidate_comparison import compare
    from searcher.results.view import Reading

    found = compare(Reading(directory), campaign, first, second)
    rows = [{**vars(figure), "interval": figure.interval and list(figure.interval)}
            for figure in found.figures]
    emit(found.as_document(), rows, format, lambda: _print(found))


def _print(found: "CandidateComparison") -> None:
    quality = found.quality
    print_table(
        f"{found.second} against {found.first} ({quality.name}, {direction_text(quality)}, "
        f"computed on {found.quality_place})",
        ("figure", found.first, found.second, "difference", "verdict"),
        [_row(figure) for figure in found.figures])
    for loss in found.classes:
        typer.echo(_class_text(loss, found))


def _row(figure: "ComparedFigure") -> list[str]:
    change = f"{figure.difference:+.4g}"
    if figure.interval is not None:
        low, high = figure.interval
        change += f" [{low:+.4g} .. {high:+.4g}]"
    elif figure.ratio is not None:
        change = f"{figure.ratio:.3g}x"
    return [figure.name, f"{figure.first:.6g}", f"{figure.second:.6g}", change, figure.verdict]


def _class_text(loss: "ClassLoss", found: "CandidateComparison") -> str:
    quality = found.quality
    text = quality.objective.text
    points = " points" if quality.unit == "share" else f" {quality.unit}".rstrip()
    which = loss.name if loss.compared == 1 else (
        f"of {loss.compared} {PLURALS[loss.kind]}, {loss.name} lost most")
    said = (f"{loss.split}: {which}: {quality.name} {text(loss.first)} -> {text(loss.second)} "
            f"over {loss.n} samples, lost {lost_text(loss.lost, quality.unit)}{points}")
    if loss.interval is None:
        return f"{said} (too few samples for an interval)"
    said += f" {lost_interval_text(loss.interval, quality.unit)}"
    if loss.compared == 1:
        return said
    return (f"{said} (95 % for all {loss.compared} at once: each interval is widened by "
            "Bonferroni's correction)")


PLURALS = {"class": "classes", "group": "groups", "part": "parts"}
