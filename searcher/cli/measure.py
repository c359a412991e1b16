"""``fleetfront measure``: benchmark any ONNX file on a device."""

from pathlib import Path
from typing import Annotated, Any

import typer

from searcher.cli.options import (
    HERE,
    Directory,
    Format,
    OutputFormat,
    Url,
    client_of,
    emit,
    news_line,
    time_text,
)

ENERGY = ("energy_j", "energy_gross_j", "power_w")


def command(
    model: Annotated[Path, typer.Argument(help="An .onnx file.")],
    device: Annotated[str | None, typer.Option(
        help="Needed when several devices are active and this machine is none.")] = None,
    directory: Directory = HERE,
    url: Url = None,
    plan: Annotated[str, typer.Option(help="quick, standard or strict.")] = "standard",
    queue_s: Annotated[float | None, typer.Option(
        min=0, help="Give up when the device has not begun within so many seconds.")] = None,
    format: OutputFormat = Format.table,
) -> None:
    """Measure latency, load time and memory of MODEL, with intervals and a verdict."""
    from searcher.measurement import plan_of

    document = _measured(model, device, directory, url, plan_of(plan), queue_s)
    values, intervals = document["values"], document["intervals"]
    row = {**values, "n": document["n"], "verdict": document["verdict"]}

    def table() -> None:
        typer.echo(f"{model}: {document['verdict']}, {document['n']} quiet blocks")
        for name, value in values.items():
            text = time_text if name.endswith("_s") else "{:,.6g}".format if name in ENERGY else \
                "{:,}".format
            shown = "insufficient" if value is None else text(value)
            low_high = intervals.get(name)
            span = f"  [{text(low_high[0])} .. {text(low_high[1])}]" if low_high else ""
            typer.echo(f"  {name:16} {shown}{span}")
        for warning in document["warnings"]:
            typer.echo(f"  warning: {warning}")

    emit(document, [row], format, table)


def _measured(
    model: Path, device: str | None, directory: Path, url: str | None, plan: Any,
    queue_s: float | None,
) -> dict[str, Any]:
    """By the coordinator at ``url`` or that serves ``directory``, else in a process tree here."""
    from searcher.errors import UserError
    from searcher.measuring import LOCAL_DEVICE, measure_on
    from searcher.running import measure_file, serves

    if url is not None or serves(directory):
        with client_of(directory, url) as client:
            return measure_on(client, model, device, plan, news_line(), queue_s)
    if device not in (None, LOCAL_DEVICE):
        raise UserError(
            f"No coordinator serves {directory}, so only this machine ({LOCAL_DEVICE}) can "
            f"measure, not {device!r}. Start `fleetfront serve` there, or name it with --url.")
    return measure_file(model, directory, plan)
