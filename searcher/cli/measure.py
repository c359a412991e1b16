"""``fleetfront measure``: benchmark an ONNX file on a device."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from agents.protocol import MeasurePlan
    from searcher.benchmark.one_file import FileBenchmark
    from searcher.benchmark.two_files import FileComparison
    from searcher.spec.runtime_options import Execution


def command(
    model: Annotated[Path, typer.Argument(help="An .onnx file.")],
    device: Annotated[str | None, typer.Option(
        help="Required if several devices are active and this machine is not one of them.")] = None,
    directory: Directory = HERE,
    url: Url = None,
    plan: Annotated[str, typer.Option(help="quick, standard or strict.")] = "standard",
    queue_s: Annotated[float | None, typer.Option(
        min=0, help="Cancel if the device does not start within this many seconds.")] = None,
    against: Annotated[Path | None, typer.Option(
        help="Another .onnx file: is MODEL faster, slower, or equal within 1 %?")] = None,
    seconds: Annotated[float, typer.Option(
        min=4, help="With --against: maximum device time in seconds.")] = 10.0,
    runtime: Annotated[str | None, typer.Option(help="Runtime; onnxruntime by default.")] = None,
    provider: Annotated[str | None, typer.Option(
        help="Such as CUDAExecutionProvider; the device must have tested it.")] = None,
    threads: Annotated[int | None, typer.Option(help="Number of threads; 1 by default.")] = None,
    graph_level: Annotated[str | None, typer.Option(
        help="Graph optimisation level of the runtime; all by default.")] = None,
    precision: Annotated[str | None, typer.Option(
        help="Precision of a trtexec engine; float32 by default.")] = None,
    format: OutputFormat = Format.table,
) -> None:
    """Measure latency, load time and memory of MODEL, with intervals and a verdict."""
    from searcher.spec.measurement_plan import plan_of
    from searcher.spec.runtime_options import execution_of

    named = {"runtime": runtime, "provider": provider, "threads": threads,
             "graph_level": graph_level, "precision": precision}
    execution = execution_of({name: value for name, value in named.items() if value is not None},
                             "on the command line")
    if against is not None:
        compared = _comparison(
            model, against, device, directory, url, seconds, queue_s, execution)
        document = asdict(compared)
        row = {name: value for name, value in document.items() if name != "looks"}
        emit(document, [row], format, lambda: _print_comparison(compared))
        return
    found = _measured(model, device, directory, url, plan_of(plan), queue_s, execution)
    emit(asdict(found), [{**found.values, "n": found.n, "verdict": found.verdict}], format,
         lambda: _print(model, found))


def _print(model: Path, found: "FileBenchmark") -> None:
    typer.echo(f"{model}: {found.verdict}, {found.n} quiet blocks ({found.measured_with})")
    for name, value in found.values.items():
        low_high = found.intervals.get(name)
        span = f"  [{_text(name, low_high[0])} .. {_text(name, low_high[1])}]" if low_high else ""
        typer.echo(f"  {name:16} {_text(name, value)}{span}")
    for note in found.nodes:
        typer.echo(f"  {note}")
    for warning in found.warnings:
        typer.echo(f"  warning: {warning}")


def _text(name: str, value: float | None) -> str:
    """The value with its unit; bytes have thousands separators."""
    if value is None:
        return "insufficient"
    if name.endswith("_s"):
        return time_text(value)
    return f"{value:,.6g}" if name.endswith(("_j", "_w")) else f"{value:,}"


def _measured(
    model: Path, device: str | None, directory: Path, url: str | None, plan: "MeasurePlan",
    queue_s: float | None, execution: "Execution",
) -> "FileBenchmark":
    """Measure with the coordinator at ``url`` or of ``directory``, else in a local process tree."""
    from searcher.benchmark.one_file import measure_on
    from searcher.local.measure import measure_file
    from searcher.local.process_tree import serves

    if url is not None or serves(directory):
        with client_of(directory, url) as client:
            return measure_on(client, model, device, plan, news_line(), queue_s, execution)
    _check_local(device, directory)
    return measure_file(model, directory, plan, execution)


def _check_local(device: str | None, directory: Path) -> None:
    """Raises UserError for a device other than this machine."""
    from searcher.errors import UserError
    from searcher.spec.runtime_options import LOCAL_DEVICE

    if device not in (None, LOCAL_DEVICE):
        raise UserError(
            f"No coordinator serves {directory}, so only this machine ({LOCAL_DEVICE}) can "
            f"measure, not {device!r}. Start `fleetfront serve` there, or name it with --url.")


def _comparison(
    model: Path, other: Path, device: str | None, directory: Path, url: str | None, seconds: float,
    queue_s: float | None, execution: "Execution",
) -> "FileComparison":
    from searcher.benchmark.one_file import compare_on
    from searcher.local.measure import compare_files
    from searcher.local.process_tree import serves

    if url is not None or serves(directory):
        with client_of(directory, url) as client:
            return compare_on(client, model, other, device, seconds, news_line(), queue_s,
                              execution)
    _check_local(device, directory)
    return compare_files(model, other, directory, seconds, news_line(), execution)


def _print_comparison(compared: "FileComparison") -> None:
    typer.echo(f"{compared.model} against {compared.against}: {compared.verdict}")
    if compared.ratio is not None and compared.interval is not None:
        low, high = compared.interval
        typer.echo(f"  ratio of times    {compared.ratio:.4f}  [{low:.4f} .. {high:.4f}]")
    typer.echo(f"  {len(compared.looks)} looks, {compared.device_s:.1f} s on the device "
               f"({compared.measured_with})")
    for warning in compared.warnings:
        typer.echo(f"  warning: {warning}")
