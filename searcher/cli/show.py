"""``fleetfront show``: everything about one candidate."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, print_table
from searcher.results.formatting import recipe_text


def command(
    candidate: Annotated[str, typer.Argument(help="campaign/number, as `front` prints it.")],
    directory: Directory = HERE,
    format: OutputFormat = Format.table,
) -> None:
    """Print recipe, layers, measurements and why CANDIDATE is or is not on the front."""
    from searcher.results.view import Reading

    document = describe(Reading(directory), candidate)
    emit(document, document["layers"], format, lambda: _print(document))


def describe(reading: Any, name: str) -> dict[str, Any]:
    """The document of ``fleetfront show --format json``."""
    from searcher.ledger.tables import builds, measurements

    found = reading.candidate(name)
    front = reading.front(found.trial.campaign)
    sha256 = found.trial.sha256
    with reading.ledger() as db:
        build = builds.of_file(db, sha256) if sha256 else None
        measured = measurements.of_file(db, sha256) if sha256 else []
    return {
        "candidate": found.name, "state": found.trial.state, "recipe": found.recipe,
        "values": found.values, "intervals": found.intervals, "sha256": sha256,
        "artifact": str(reading.artifact(sha256)) if sha256 else None,
        "fidelity": build.fidelity if build else None,
        "layers": build.report["layers"] if build else [],
        "macs": build.report["macs"] if build else None,
        "parameters": build.report["parameters"] if build else None,
        "measurements": [{**asdict(m), "warnings": m.warnings()} for m in measured],
        "front": why(found, front),
    }


def why(found: Any, front: dict[str, Any]) -> str:
    """Why a candidate is or is not on the front, in one sentence."""
    if any(p["candidate"] == found.name for p in front["points"]):
        return "on the front: no other candidate within the constraints is at least as good on " \
               "every objective"
    if found.trial.state != "complete" or found.trial.reason:
        return f"not on the front: {found.trial.reason or found.trial.state}"
    broken = [name for name, excess in (found.trial.constraints or {}).items() if excess > 0]
    if broken:
        return f"not on the front: breaks a constraint: {', '.join(broken)}"
    better = [p["candidate"] for p in front["points"] if _no_worse(p["values"], found.values,
                                                                   front["objectives"])]
    if not better:
        return "not on the front: another candidate was clearly better when it was measured"
    return f"not on the front: {', '.join(better)} is no worse on every objective and better on one"


def _no_worse(first: dict[str, float], second: dict[str, float],
              objectives: list[dict[str, str]]) -> bool:
    return all(first[o["name"]] <= second[o["name"]] if o["direction"] == "minimize"
               else first[o["name"]] >= second[o["name"]] for o in objectives)


def _print(document: dict[str, Any]) -> None:
    from searcher.spec.runtime_options import in_words
    from searcher.statistics.energy import energy_notes, figures
    from searcher.statistics.node_summary import node_notes

    typer.echo(f"{document['candidate']} ({document['state']}, {document['fidelity']})")
    typer.echo(f"  {recipe_text(document['recipe'])}")
    typer.echo(f"  {document['front']}")
    if document["artifact"]:
        there = Path(document["artifact"]).is_file()
        typer.echo(f"  {document['artifact']}" + ("" if there else " (not there: dropped or lost)"))
    for name, value in sorted(document["values"].items()):
        interval = document["intervals"].get(name)
        span = f"  [{interval[0]:.6g} .. {interval[1]:.6g}]" if interval else ""
        typer.echo(f"  {name:20} {value:.6g}{span}")
    print_layers(document["layers"])
    for measured in document["measurements"]:
        ratio = f"ratio {measured['ratio']:.4f}" if measured["ratio"] else ""
        how = in_words(measured["runtime"], measured["provider"], measured["options"])
        typer.echo(f"  measured on {measured['device']} with {how}: {measured['verdict']} {ratio} "
                   f"quiet blocks {measured['n']}, plan {measured['plan'].get('name')}")
        for name, (low, high) in figures(measured["summary"])[1].items():
            typer.echo(f"    {name:18} {low:.6g} .. {high:.6g}")
        for note in (*energy_notes(measured["summary"]), *node_notes(measured["summary"])):
            typer.echo(f"    {note}")
        for warning in measured["warnings"]:
            typer.echo(f"    warning: {warning}")


def print_layers(layers: list[dict[str, Any]]) -> None:
    """One row per weighted layer."""
    if layers:
        columns = [name for name in LAYER_COLUMNS if name in layers[0]]
        print_table("layers", columns, [[_cell(layer[c]) for c in columns] for layer in layers])


LAYER_COLUMNS = ("name", "op", "macs", "parameters", "weight_bytes", "activation_bytes",
                 "distinct_values", "nonzero_share")


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value}"
