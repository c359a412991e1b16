"""``fleetfront front``: print the Pareto front of a campaign, and copy its files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, print_table
from searcher.errors import UserError
from searcher.results.formatting import (
    bytes_text,
    direction_text,
    interval_text,
    lost_interval_text,
    lost_text,
    time_text,
)
from searcher.spec.objectives import TEST_DROP

if TYPE_CHECKING:
    from searcher.results.front import Front, FrontPoint


def command(
    campaign: Annotated[str | None, typer.Argument(help="Required if there are several.")] = None,
    directory: Directory = HERE,
    device: Annotated[str | None, typer.Option(help="Device of the front.")] = None,
    where: Annotated[str | None, typer.Option(
        help='Conditions, such as "latency_s<0.002 and file_bytes<1e6".')] = None,
    save: Annotated[Path | None, typer.Option(help="Folder for copies of the .onnx files.")] = None,
    format: OutputFormat = Format.table,
) -> None:
    """Print the Pareto front of CAMPAIGN: the task's metric, latency and file size, with the
    baseline first."""
    from searcher.results.front import front_rows
    from searcher.results.view import Reading

    front = Reading(directory).front(campaign, where, device)
    emit(front.as_document(), front_rows(front), format, lambda: print_front(front))
    if save is not None:
        _save(front, save, directory)


def print_front(front: "Front") -> None:
    """Print the front as a table with 95 % intervals and factors relative to the baseline."""
    quality = front.quality
    print_table(
        f"{front.campaign} on {front.device}: {len(front.points)} points, "
        f"hypervolume {front.hypervolume:.4f} (95 % intervals in brackets; measured with "
        f"{front.measured_with}; {quality.name}, {direction_text(quality)}, computed on "
        f"{front.quality_place})",
        ("candidate", "validation", "test", "lost on test", "latency", "faster", "file",
         "smaller", "recipe"), [_row(point, front) for point in front.files])


def _row(point: "FrontPoint", front: "Front") -> list[str]:
    values, intervals, baseline = point.values, point.intervals, front.baseline
    name, unit, text = front.quality.test_name, front.quality.unit, front.quality.objective.text
    test, lost = "", ""
    if name in values:
        test = text(values[name])
        if name in intervals:
            test += f" {interval_text(intervals[name], unit)}"
    if TEST_DROP in values:
        lost = lost_text(values[TEST_DROP], unit)
        if TEST_DROP in intervals:
            lost += f" {lost_interval_text(intervals[TEST_DROP], unit)}"
    latency_s, (low_s, high_s) = values["latency_s"], intervals["latency_s"]
    half = (high_s - low_s) / 2 / latency_s
    return [
        point.candidate, text(values[front.quality.name]), test, lost,
        f"{time_text(latency_s)} ±{half:.1%}",
        f"{baseline.values['latency_s'] / latency_s:.2f}x", bytes_text(values["file_bytes"]),
        f"{baseline.values['file_bytes'] / values['file_bytes']:.1f}x", str(point.recipe),
    ]


def _save(front: "Front", folder: Path, directory: Path) -> None:
    """Copy the files. Raises UserError with the names of files that are missing and cannot be
    built now."""
    from searcher.client.http import connect
    from searcher.client.rebuilds import have_built, how_to_get
    from searcher.results.front import save_files

    gone = save_files(front, folder)
    if not gone:
        return
    try:
        client = connect(directory)
    except UserError as error:
        raise UserError(how_to_get(directory, gone, folder)) from error
    with client:
        if not client.healthy():
            raise UserError(how_to_get(directory, gone, folder))
        have_built(client, gone, lambda line: typer.echo(line, err=True))
    save_files(front, folder)
