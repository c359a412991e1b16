"""``fleetfront build``: build one recipe without a search."""

from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory
from searcher.results.formatting import bytes_text


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe .toml, or a candidate campaign/number.")],
    task: Annotated[str | None, typer.Option(help="Task; required with a recipe file.")] = None,
    fidelity: Annotated[str | None, typer.Option(
        help="untrained, short, full or extended. Default: the candidate's, else full.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Output folder.")] = Path(
        "build-output"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the baseline and of training.")] = 0,
    profile: Annotated[str | None, typer.Option(
        help="Device profile to build for. Default: device of the candidate's campaign, else "
             "local_cpu."
    )] = None,
    directory: Directory = HERE,
) -> None:
    """Build RECIPE for TASK: write model.onnx, module.pt, checkpoint.pt, recipe.toml
    and figures.json. module.pt is the compressed torch module (fleetfront.load_torch)."""
    from searcher.local.build import build_recipe

    figures = build_recipe(recipe, task, fidelity, output, seed, directory, profile)
    values, target, quality = figures.values, figures.target, figures.quality
    text = quality.objective.text
    typer.echo(f"{output / 'model.onnx'}: {bytes_text(values['file_bytes'])}, "
               f"{figures.file_ratio:.1f}x smaller than the baseline, "
               f"{values['macs'] / 1e6:.3f} M MACs, {quality.name} on validation "
               f"{text(values[quality.name])} (baseline {text(figures.baseline.value)})")
    typer.echo(f"for the profile {target.profile} ({target.device or 'any device of it'}): "
               f"opset {target.opset}, IR {target.ir_version}")
    for contradiction in target.contradictions:
        typer.echo(f"  {target.device}: {contradiction}")
    dropped = figures.dropped
    if dropped is not None:
        typer.echo(f"the file {dropped.sha256} of {recipe} was dropped from {directory}; "
                   + ("the new file is identical" if dropped.same_bytes else
                      f"the new file differs: {figures.sha256}"))
