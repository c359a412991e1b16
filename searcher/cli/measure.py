"""``fleetfront measure``: benchmark any ONNX file on a device."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
)
from searcher.results.formatting import time_text

if TYPE_CHECKING:
    from searcher.spec.runtime_options import Execution


def command(
    model: Annotated[Path, typer.Argument(help="An .onnx file.")],
    device: Annotated[str | None, typer.Option(
        help="Needed when several devices are active and this machine is none.")] = None,
    directory: Directory = HERE,
    url: Url = None,
    plan: Annotated[str, typer.Option(help="quick, standard or strict.")] = "standard",
    queue_s: Annotated[float | None, typer.Option(
        min=0, help="Give up when the device has not begun within so many seconds.")] = None,
    against: Annotated[Path | None, typer.Option(
        help="Another .onnx file: is MODEL faster, slower, or equal within 1 %?")] = None,
    seconds: Annotated[float, typer.Option(
        min=4, help="With --against: most seconds of device time.")] = 10.0,
    runtime: Annotated[str | None, typer.Option(help="Such as onnxruntime (default).")] = None,
    provider: Annotated[str | None, typer.Option(
        help="Such as CUDAExecutionProvider; the device must have proved it.")] = None,
    threads: Annotated[int | None, typer.Option(help="1 by default.")] = None,
    graph_level: Annotated[str | None, typer.Option(
        help="How far the runtime may optimise the graph; all by default.")] = None,
    precision: Annotated[str | None, typer.Option(
        help="Of an engine of trtexec; float32 by default.")] = None,
    format: OutputFormat = Format.table,
) -> None:
    """Measure latency, load time and memory of MODEL, with intervals and a verdict."""
    from searcher.spec.measurement_plan import plan_of
    from searcher.spec.runtime_options import execution_of
    from searcher.statistics.energy import FIGURES

    named = {"runtime": runtime, "provider": provider, "threads": threads,
             "graph_level": graph_level, "precision": precision}
    execution = execution_of({name: value for name, value in named.items() if value is not None},
                             "on the command line")
    if against is not None:
        compared = _compared(
            model, against, device, directory, url, seconds, queue_s, execution)
        figures = {name: value for name, value in compared.items() if name != "looks"}
        emit(compared, [figures], format, lambda: _print_compared(compared))
        return
    document = _measured(model, device, directory, url, plan_of(plan), queue_s, execution)
    values, intervals = document["values"], document["intervals"]
    row = {**values, "n": document["n"], "verdict": document["verdict"]}

    def table() -> None:
        typer.echo(f"{model}: {document['verdict']}, {document['n']} quiet blocks "
                   f"({document['measured_with']})")
        for name, value in values.items():
            text = time_text if name.endswith("_s") else "{:,.6g}".format if name in FIGURES else \
                "{:,}".format
            shown = "insufficient" if value is None else text(value)
            low_high = intervals.get(name)
            span = f"  [{text(low_high[0])} .. {text(low_high[1])}]" if low_high else ""
            typer.echo(f"  {name:16} {shown}{span}")
        for note in document["nodes"]:
            typer.echo(f"  {note}")
        for warning in document["warnings"]:
            typer.echo(f"  warning: {warning}")

    emit(document, [row], format, table)


def _measured(
    model: Path, device: str | None, directory: Path, url: str | None, plan: Any,
    queue_s: float | None, execution: "Execution",
) -> dict[str, Any]:
    """By the coordinator at ``url`` or that serves ``directory``, else in a process tree here."""
    from searcher.benchmark.one_file import measure_on
    from searcher.local.measure import measure_file
    from searcher.local.process_tree import serves

    if url is not None or serves(directory):
        with client_of(directory, url) as client:
            return measure_on(client, model, device, plan, news_line(), queue_s, execution)
    _check_local(device, directory)
    return measure_file(model, directory, plan, execution)


def _check_local(device: str | None, directory: Path) -> None:
    """Raises UserError for a device that is not this machine."""
    from searcher.errors import UserError
    from searcher.spec.runtime_options import LOCAL_DEVICE

    if device not in (None, LOCAL_DEVICE):
        raise UserError(
            f"No coordinator serves {directory}, so only this machine ({LOCAL_DEVICE}) can "
            f"measure, not {device!r}. Start `fleetfront serve` there, or name it with --url.")


def _compared(
    model: Path, other: Path, device: str | None, directory: Path, url: str | None, seconds: float,
    queue_s: float | None, execution: "Execution",
) -> dict[str, Any]:
    from searcher.benchmark.one_file import compare_on
    from searcher.local.measure import compare_files
    from searcher.local.process_tree import serves

    if url is not None or serves(directory):
        with client_of(directory, url) as client:
            return compare_on(client, model, other, device, seconds, news_line(), queue_s,
                              execution)
    _check_local(device, directory)
    return compare_files(model, other, directory, seconds, news_line(), execution)


def _print_compared(document: dict[str, Any]) -> None:
    looks = len(document["looks"])
    typer.echo(f"{document['model']} against {document['against']}: {document['verdict']}")
    if document["ratio"] is not None:
        low, high = document["interval"]
        typer.echo(f"  ratio of times    {document['ratio']:.4f}  [{low:.4f} .. {high:.4f}]")
    typer.echo(f"  {looks} looks, {document['device_s']:.1f} s on the device "
               f"({document['measured_with']})")
    for warning in document["warnings"]:
        typer.echo(f"  warning: {warning}")
