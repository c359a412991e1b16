"""``fleetfront complexity``: parameters, MACs and memory per layer of an ONNX file."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import Format, OutputFormat, emit
from searcher.cli.show import print_layers


def command(
    model: Annotated[Path, typer.Argument(help="An .onnx file.")],
    format: OutputFormat = Format.table,
) -> None:
    """Count parameters, multiply-accumulates (MACs) and bytes per layer of MODEL."""
    from searcher.artifacts.onnx_complexity import complexity
    from searcher.errors import UserError

    if not model.is_file():
        raise UserError(f"There is no file {model}.")
    found = asdict(complexity(model))

    def table() -> None:
        print_layers(found["layers"])
        typer.echo(f"parameters {found['parameters']:,}   MACs {found['macs']:,}   "
                   f"file {model.stat().st_size:,} bytes")

    emit(found, found["layers"], format, table)
