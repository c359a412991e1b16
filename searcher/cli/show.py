"""``fleetfront show``: print everything about one candidate."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, print_table

if TYPE_CHECKING:
    from searcher.ledger.rows import MeasurementRow
    from searcher.results.candidate_details import CandidateDetails


def command(
    candidate: Annotated[str, typer.Argument(help="campaign/number, as printed by `front`.")],
    directory: Directory = HERE,
    format: OutputFormat = Format.table,
) -> None:
    """Print recipe, layers and measurements of CANDIDATE, and why it is or is not on the front."""
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
    print_layers(details.layers)
    for measured in details.measurements:
        _print_measurement(measured)


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
