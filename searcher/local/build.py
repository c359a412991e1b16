"""One recipe without a search: the folder that ``fleetfront build`` writes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from profiles import schema
from searcher.builders.builder import Build, Builder
from searcher.devices.profile_check import Compared, of_campaign
from searcher.devices.target import target_of
from searcher.errors import BuildError, UserError, nearest
from searcher.ledger.directory_lock import owned
from searcher.ledger.tables import builds, devices
from searcher.results.view import Reading
from searcher.spec.campaign import Campaign
from searcher.spec.fidelity import FIDELITIES
from searcher.spec.recipe import Recipe
from searcher.tasks.catalog import task as task_of


def build_recipe(recipe: str, task: str | None, fidelity: str | None, output: Path, seed: int,
                 directory: Path, profile: str | None = None) -> dict[str, Any]:
    """Build and write model.onnx, checkpoint.pt, recipe.toml, figures.json into ``output``.

    ``fidelity`` None is a candidate's own, else full. Builds are cached in ``directory/builds``
    as a campaign's are. For a candidate whose file was dropped the figures say so (``dropped``).
    The file is for devices of ``profile``, unless given for the device of the candidate's campaign
    as it is enrolled, else local_cpu; the figures say which (``target``). Raises UserError,
    BuildError.
    """
    if fidelity is not None and fidelity not in FIDELITIES:
        raise UserError(f"fidelity {fidelity!r} is unknown. {nearest(fidelity, FIDELITIES)}")
    wanted = _what(recipe, task, seed, directory)
    fidelity = fidelity or wanted.fidelity
    device, known = _for_whom(profile, wanted.campaign, directory)
    target = target_of(known.profile)
    # As the builders of a campaign: several threads wait for each other when anything else runs.
    torch.set_num_threads(1)
    with owned(directory):
        builder = Builder(task_of(wanted.task), wanted.seed, directory / "builds")
        try:
            build = (builder.compress(wanted.recipe, target) if fidelity == "untrained"
                     else builder.train(wanted.recipe, fidelity, target))
        except BuildError as error:
            raise UserError(f"The recipe cannot be built ({error.reason}): {error}") from error
        baseline = builder.train(Recipe(), "full", target)
        figures = _figures(builder, build, baseline, wanted, fidelity)
        figures["target"] = {
            "device": device, "profile": known.profile.name, "opset": target.opset,
            "ir_version": target.ir_version, "number_formats": sorted(target.number_formats),
            "contradictions": list(known.contradictions)}
        output.mkdir(parents=True, exist_ok=True)
        if wanted.dropped is not None:
            figures["dropped"] = {"sha256": wanted.dropped,
                                  "same_bytes": build.sha256 == wanted.dropped}
        (output / "model.onnx").write_bytes(build.content)
        (output / "recipe.toml").write_text(wanted.recipe.as_toml())
        (output / "figures.json").write_text(json.dumps(figures, indent=2))
        model = builder.model(wanted.recipe, fidelity)
        torch.save(model.state_dict(), output / "checkpoint.pt")
    return figures


@dataclass(frozen=True)
class Wanted:
    """What to build; of a candidate also its campaign, and ``dropped``, the sha256 of its file,
    if that was dropped."""

    recipe: Recipe
    task: str
    seed: int
    fidelity: str = "full"
    dropped: str | None = None
    campaign: Campaign | None = None


def _what(recipe: str, task: str | None, seed: int, directory: Path) -> Wanted:
    """By a recipe file or the name of a candidate. Raises UserError."""
    if recipe.endswith(".toml") or Path(recipe).is_file():
        if task is None:
            raise UserError("A recipe file needs --task, such as --task lenet5-mnist.")
        return Wanted(Recipe.from_toml(Path(recipe)), task, seed)
    reading = Reading(directory)
    candidate = reading.candidate(recipe)
    _, campaign = reading.campaign(candidate.trial.campaign)
    sha256 = candidate.trial.sha256
    with reading.ledger() as db:
        build = builds.of_file(db, sha256) if sha256 else None
    return Wanted(
        Recipe.from_list(candidate.recipe), task or campaign.task, campaign.seed,
        build.fidelity if build else "full",
        sha256 if sha256 and not reading.artifact(sha256).is_file() else None, campaign)


def _for_whom(profile: str | None, campaign: Campaign | None,
              directory: Path) -> tuple[str | None, Compared]:
    """The device whose files these are, if it is one of the ledger, and what is known of it."""
    if profile is not None or campaign is None:
        try:
            return None, Compared(schema.profile(profile or "local_cpu"), ())
        except schema.ProfileError as error:
            raise UserError(str(error)) from error
    name = campaign.devices[0]
    with Reading(directory).ledger() as db:
        row = devices.device(db, name)
    told: tuple[str | None, Mapping[str, Any], Mapping[str, Any]] = (
        (None, {}, {}) if row is None else (row.profile, row.fingerprint, row.capabilities))
    return None if row is None else name, of_campaign(name, name in campaign.named, *told)


def _figures(builder: Builder, build: Build, baseline: Build, wanted: Wanted,
             fidelity: str) -> dict[str, Any]:
    evaluation = build.evaluation or builder.evaluate(build.content, "validation")
    before = baseline.evaluation or builder.evaluate(baseline.content, "validation")
    return {
        "task": wanted.task, "fidelity": fidelity, "seed": wanted.seed,
        "recipe": wanted.recipe.as_list(),
        "sha256": build.sha256, "build_key": build.key,
        "values": {"accuracy": evaluation.value, "file_bytes": len(build.content),
                   "macs": build.report.macs, "parameters": build.report.parameters},
        "intervals": {"accuracy": list(evaluation.interval)},
        "baseline": {"accuracy": before.value, "file_bytes": len(baseline.content),
                     "macs": baseline.report.macs, "sha256": baseline.sha256},
        "file_ratio": len(baseline.content) / len(build.content),
        "layers": [asdict(layer) for layer in build.report.layers],
        "steps": {"built": build.built_steps, "reused": build.reused_steps},
    }


