"""One recipe without a search: the folder that ``fleetfront build`` writes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from profiles import schema
from searcher.artifacts.complexity import LayerComplexity
from searcher.builders.builder import Build, Builder
from searcher.devices.profile_check import Compared, of_campaign
from searcher.devices.target import target_of
from searcher.errors import BuildError, UserError, nearest
from searcher.ledger.directory_lock import owned
from searcher.ledger.tables import builds, devices
from searcher.results.view import Reading
from searcher.spec.campaign import Campaign
from searcher.spec.fidelity import FIDELITIES
from searcher.spec.recipe import Recipe, Value
from searcher.tasks.catalog import task as task_of


@dataclass(frozen=True)
class BaselineFigures:
    accuracy: float
    file_bytes: int
    macs: int
    sha256: str


@dataclass(frozen=True)
class BuiltFor:
    """Whom the file is for; ``device`` is None where it is for any device of the profile."""

    device: str | None
    profile: str
    opset: int
    ir_version: int
    number_formats: Sequence[str]
    contradictions: Sequence[str]


@dataclass(frozen=True)
class DroppedFile:
    """The file of the candidate was dropped from the disk; ``same_bytes``: this is the same."""

    sha256: str
    same_bytes: bool


@dataclass(frozen=True)
class RecipeFigures:
    """What ``figures.json`` has. ``file_ratio`` is the baseline's size over that of the file;
    ``steps`` counts those that were built now and those that came from the cache."""

    task: str
    fidelity: str
    seed: int
    recipe: Sequence[Mapping[str, Value]]
    sha256: str
    build_key: str
    values: Mapping[str, float]
    intervals: Mapping[str, Sequence[float]]
    baseline: BaselineFigures
    file_ratio: float
    layers: Sequence[LayerComplexity]
    steps: Mapping[str, int]
    target: BuiltFor
    dropped: DroppedFile | None = None

    def as_document(self) -> dict[str, object]:
        """Plain JSON, without ``dropped`` where nothing was."""
        document = asdict(self)
        if self.dropped is None:
            del document["dropped"]
        return document


def build_recipe(recipe: str, task: str | None, fidelity: str | None, output: Path, seed: int,
                 directory: Path, profile: str | None = None) -> RecipeFigures:
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
        built_for = BuiltFor(
            device, known.profile.name, target.opset, target.ir_version,
            sorted(target.number_formats), list(known.contradictions))
        figures = _figures(builder, build, baseline, wanted, fidelity, built_for)
        output.mkdir(parents=True, exist_ok=True)
        (output / "model.onnx").write_bytes(build.content)
        (output / "recipe.toml").write_text(wanted.recipe.as_toml())
        (output / "figures.json").write_text(json.dumps(figures.as_document(), indent=2))
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
        candidate.recipe, task or campaign.task, campaign.seed,
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
    told: tuple[str | None, Mapping[str, object], Mapping[str, object]] = (
        (None, {}, {}) if row is None else (row.profile, row.fingerprint, row.capabilities))
    return None if row is None else name, of_campaign(name, name in campaign.named, *told)


def _figures(builder: Builder, build: Build, baseline: Build, wanted: Wanted, fidelity: str,
             built_for: BuiltFor) -> RecipeFigures:
    evaluation = build.evaluation or builder.evaluate(build.content, "validation")
    before = baseline.evaluation or builder.evaluate(baseline.content, "validation")
    return RecipeFigures(
        wanted.task, fidelity, wanted.seed, wanted.recipe.as_list(), build.sha256, build.key,
        {"accuracy": evaluation.value, "file_bytes": len(build.content),
         "macs": build.report.macs, "parameters": build.report.parameters},
        {"accuracy": list(evaluation.interval)},
        BaselineFigures(before.value, len(baseline.content), baseline.report.macs,
                        baseline.sha256),
        len(baseline.content) / len(build.content), build.report.layers,
        {"built": build.built_steps, "reused": build.reused_steps}, built_for,
        None if wanted.dropped is None else DroppedFile(
            wanted.dropped, build.sha256 == wanted.dropped))
