"""``fleetfront front``: the Pareto front of a campaign, with the files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, print_table
from searcher.errors import UserError
from searcher.results.formatting import (
    bytes_text,
    front_rows,
    recipe_text,
    save_files,
    share_text,
    time_text,
)


def command(
    campaign: Annotated[str | None, typer.Argument(help="Needed when there are several.")] = None,
    directory: Directory = HERE,
    device: Annotated[str | None, typer.Option(help="Device profile of the front.")] = None,
    where: Annotated[str | None, typer.Option(
        help='Conditions, such as "latency_s<0.002 and file_bytes<1e6".')] = None,
    save: Annotated[Path | None, typer.Option(help="Copy the points' .onnx files here.")] = None,
    format: OutputFormat = Format.table,
) -> None:
    """Print the Pareto front of CAMPAIGN: accuracy against speed and size, baseline on top."""
    from searcher.results.view import Reading

    document = Reading(directory).front(campaign, where, device)
    emit(document, front_rows(document), format, lambda: print_front(document))
    if save is not None:
        _save(document, save, directory)


def print_front(document: dict[str, Any]) -> None:
    """The front as a table, figures with their 95 % intervals and as multiples of the baseline."""
    baseline = document["baseline"]
    rows = [_row(point, baseline) for point in (baseline, *document["points"])]
    print_table(
        f"{document['campaign']} on {document['device']}: {len(document['points'])} points, "
        f"hypervolume {document['hypervolume']:.4f} (95 % intervals in brackets; measured with "
        f"{document['measured_with']}; accuracy computed on {document['accuracy_place']})",
        ("candidate", "validation", "test", "lost on test", "latency", "faster", "file",
         "smaller", "recipe"), rows)


def _row(point: dict[str, Any], baseline: dict[str, Any]) -> list[str]:
    values, intervals = point["values"], point["intervals"]
    test, lost = "", ""
    if "accuracy_test" in values:
        low, high = intervals["accuracy_test"]
        test = f"{share_text(values['accuracy_test'])} [{low:.1%}..{high:.1%}]"
    if "accuracy_test_drop" in values:
        low, high = intervals["accuracy_test_drop"]
        lost = f"{values['accuracy_test_drop'] * 100:+.2f} [{low * 100:+.1f}..{high * 100:+.1f}]"
    latency, low_high = values["latency_s"], intervals["latency_s"]
    half = (low_high[1] - low_high[0]) / 2 / latency
    return [
        point["candidate"], share_text(values["accuracy"]), test, lost,
        f"{time_text(latency)} ±{half:.1%}",
        f"{baseline['values']['latency_s'] / latency:.2f}x", bytes_text(values["file_bytes"]),
        f"{baseline['values']['file_bytes'] / values['file_bytes']:.1f}x",
        recipe_text(point["recipe"]),
    ]


def _save(document: dict[str, Any], folder: Path, directory: Path) -> None:
    """Raises UserError that names the files which are not there and cannot be built now."""
    from searcher.client.http import connect
    from searcher.client.rebuilds import have_built, how_to_get

    gone = save_files(document, folder)
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
    save_files(document, folder)


