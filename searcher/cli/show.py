"""``fleetfront show``: print everything about one candidate, or the scans of a campaign."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, print_table

if TYPE_CHECKING:
    from searcher.ledger.rows import MeasurementRow
    from searcher.results.candidate_details import CandidateDetails
    from searcher.results.scans import LayerStrength
    from searcher.spec.scan_result import ScanResult


def command(
    candidate: Annotated[str, typer.Argument(
        help="campaign/number, as printed by `front`; with --scan, a campaign.")],
    scan: Annotated[bool, typer.Option(
        "--scan", help="Print what each layer of a campaign loses alone instead.")] = False,
    directory: Directory = HERE,
    format: OutputFormat = Format.table,
) -> None:
    """Print recipe, layers and measurements of CANDIDATE, and why it is or is not on the front."""
    if scan:
        _show_scans(candidate, directory, format)
        return
    from searcher.results.candidate_details import details_of
    from searcher.results.view import Reading

    details = details_of(Reading(directory), candidate)
    emit(details.as_document(), details.layers, format, lambda: _print(details))


def _print(details: "CandidateDetails") -> None:
    found = details.candidate
    typer.echo(f"{found.name} ({found.trial.state}, {details.fidelity})")
    typer.echo(f"  {found.recipe}")
    typer.echo(f"  {details.why}")
    if details.artifact is not None:
        gone = "" if details.artifact.is_file() else " (missing: dropped or lost)"
        typer.echo(f"  {details.artifact}{gone}")
    for name, value in sorted(found.figures.values.items()):
        interval = found.figures.intervals.get(name)
        span = f"  [{interval[0]:.6g} .. {interval[1]:.6g}]" if interval else ""
        typer.echo(f"  {name:20} {value:.6g}{span}")
    _print_strengths(details.strengths)
    print_layers(details.layers)
    for measured in details.measurements:
        _print_measurement(measured)


def _print_strengths(strengths: Sequence["LayerStrength"]) -> None:
    """One table per step with a number for each layer."""
    from searcher.results.scans import loss_text

    for (step, strategy, parameter), found in groupby(
            strengths, key=lambda one: (one.step, one.strategy, one.parameter)):
        typer.echo(f"step {step}, {strategy}: {parameter} of each layer, and its loss in the scan")
        print_table("", ("layer", parameter, "loss"),
                    [[one.layer, f"{one.strength:g}", loss_text(one.loss)] for one in found])


def _show_scans(campaign: str, directory: Path, format: Format) -> None:
    from searcher.documents import plain
    from searcher.results.scans import level_rows
    from searcher.results.view import Reading

    found = Reading(directory).scans(campaign)
    emit({device: [plain(scan) for scan in scans] for device, scans in found.items()},
         [row for device, scans in found.items() for scan in scans
          for row in level_rows(device, scan)],
         format, lambda: _print_scans(campaign, found))


def _print_scans(campaign: str, found: Mapping[str, Sequence["ScanResult"]]) -> None:
    from searcher.results.scans import loss_table

    for device, scans in found.items():
        for table in map(loss_table, scans):
            typer.echo(f"{campaign} on {device}, {table.title}")
            print_table("", table.columns, table.rows)
            for note in table.notes:
                typer.echo(f"  {note}")
    if not any(found.values()):
        typer.echo(f"{campaign} has no scans: its search has not scanned yet, `[search] scan` is "
                   "false, or no strategy of the campaign takes a number for each layer.")


def _print_measurement(measured: "MeasurementRow") -> None:
    from searcher.results.measurement_summary import summary_of
    from searcher.spec.runtime_options import in_words
    from searcher.statistics.energy import energy_notes, figures
    from searcher.statistics.node_summary import node_notes

    summary = summary_of(measured)
    ratio = f"ratio {measured.ratio:.4f}" if measured.ratio else ""
    how = in_words(measured.runtime, measured.provider, measured.options)
    typer.echo(f"  measured on {measured.device} with {how}: {measured.verdict} {ratio} "
               f"quiet blocks {measured.n}, plan {measured.plan.get('name')}")
    for name, (low, high) in figures(summary)[1].items():
        typer.echo(f"    {name:18} {low:.6g} .. {high:.6g}")
    for note in (*energy_notes(summary), *node_notes(summary)):
        typer.echo(f"    {note}")
    for warning in measured.warnings():
        typer.echo(f"    warning: {warning}")


def print_layers(layers: Sequence[Mapping[str, object]]) -> None:
    """One row per layer with weights."""
    if layers:
        columns = [name for name in LAYER_COLUMNS if name in layers[0]]
        print_table("layers", columns, [[_cell(layer[c]) for c in columns] for layer in layers])


LAYER_COLUMNS = ("name", "op", "macs", "parameters", "weight_bytes", "activation_bytes",
                 "distinct_values", "nonzero_share")


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value}"
