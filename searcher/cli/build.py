"""``fleetfront build``: one recipe, no search."""

from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory
from searcher.results.formatting import bytes_text, share_text


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe .toml, or a candidate campaign/number.")],
    task: Annotated[str | None, typer.Option(help="Needed with a recipe file.")] = None,
    fidelity: Annotated[str | None, typer.Option(
        help="untrained, short, full or extended; a candidate's own, else full.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path(
        "build-output"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of baseline and training.")] = 0,
    profile: Annotated[str | None, typer.Option(
        help="What the file is for; the device of a candidate's campaign, else local_cpu."
    )] = None,
    directory: Directory = HERE,
) -> None:
    """Build RECIPE for TASK: model.onnx, checkpoint.pt, recipe.toml and figures.json."""
    from searcher.local.build import build_recipe

    figures = build_recipe(recipe, task, fidelity, output, seed, directory, profile)
    values, target = figures.values, figures.target
    typer.echo(f"{output / 'model.onnx'}: {bytes_text(values['file_bytes'])}, "
               f"{figures.file_ratio:.1f}x smaller than the baseline, "
               f"{values['macs'] / 1e6:.3f} M MACs, validation {share_text(values['accuracy'])} "
               f"(baseline {share_text(figures.baseline.accuracy)})")
    typer.echo(f"for the profile {target.profile} ({target.device or 'any device of it'}): "
               f"opset {target.opset}, IR {target.ir_version}")
    for contradiction in target.contradictions:
        typer.echo(f"  {target.device}: {contradiction}")
    dropped = figures.dropped
    if dropped is not None:
        typer.echo(f"the file {dropped.sha256} of {recipe} had been dropped from {directory}; "
                   + ("this is the same, byte by byte" if dropped.same_bytes else
                      f"this one is another: {figures.sha256}"))
