"""``fleetfront measure``: benchmark any ONNX file on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, time_text


def command(
    model: Annotated[Path, typer.Argument(help="An .onnx file.")],
    directory: Directory = HERE,
    plan: Annotated[str, typer.Option(help="quick, standard or strict.")] = "standard",
    format: OutputFormat = Format.table,
) -> None:
    """Measure latency, load time and memory of MODEL, with intervals and a verdict."""
    from searcher.measurement import plan_of
    from searcher.running import measure_file

    document = measure_file(model, directory, plan_of(plan))
    values, intervals = document["values"], document["intervals"]
    row = {**values, "n": document["n"], "verdict": document["verdict"]}

    def table() -> None:
        typer.echo(f"{model}: {document['verdict']}, {document['n']} quiet blocks")
        for name, value in values.items():
            shown = "insufficient" if value is None else (
                time_text(value) if name.endswith("_s") else f"{value:,}")
            low_high = intervals.get(name)
            span = f"  [{time_text(low_high[0])} .. {time_text(low_high[1])}]" if low_high else ""
            typer.echo(f"  {name:16} {shown}{span}")
        for warning in document["warnings"]:
            typer.echo(f"  warning: {warning}")

    emit(document, [row], format, table)
