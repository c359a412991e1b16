"""``fleetfront build``: build one recipe without a search and write its folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from profiles import schema
from searcher.artifacts.complexity import LayerComplexity
from searcher.builders import torch_module
from searcher.builders.builder import Build, Builder, left_out
from searcher.builders.evaluation import Evaluation
from searcher.builders.torch_module import FIGURES, TorchModule
from searcher.devices.profile_check import Compared, of_campaign
from searcher.devices.target import target_of
from searcher.errors import BuildError, UserError, nearest
from searcher.jobs.build import BUILDING, BuildRequest
from searcher.jobs.registry import request_of
from searcher.ledger.directory_lock import owned
from searcher.ledger.tables import builds, devices, jobs
from searcher.results.view import Reading
from searcher.spec.campaign import Campaign
from searcher.spec.fidelity import FIDELITIES, REPAIRED, TRAINED, UNTRAINED
from searcher.spec.objectives import DROP, Quality
from searcher.spec.recipe import Recipe, Value
from searcher.tasks.catalog import task as task_of
from searcher.tasks.scored_split import ScoredSplit, quality_of_metric


@dataclass(frozen=True)
class BaselineFigures:
    """``value`` is the metric on the validation split."""

    value: float
    file_bytes: int
    macs: int
    sha256: str


@dataclass(frozen=True)
class BuiltFor:
    """What the file was built for; ``device`` is None when it is for any device of the profile."""

    device: str | None
    profile: str
    opset: int
    ir_version: int
    number_formats: Sequence[str]
    contradictions: Sequence[str]


@dataclass(frozen=True)
class DroppedFile:
    """Present when the candidate's file was dropped from the disk. ``same_bytes``: the new file is
    identical to it."""

    sha256: str
    same_bytes: bool


@dataclass(frozen=True)
class RecipeFigures:
    """The content of ``figures.json``. ``file_ratio`` is the size of the baseline divided by the
    size of the file. ``steps`` counts the steps that were built and those from the cache.
    ``quality`` is the task's metric; its value is among ``values`` by its name. ``torch_module``
    is the compressed module, which ``fleetfront.load_torch`` loads."""

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
    quality: Quality
    torch_module: TorchModule
    dropped: DroppedFile | None = None

    def as_document(self) -> dict[str, object]:
        """Plain JSON; ``dropped`` is absent when no file was dropped."""
        document = asdict(self)
        if self.dropped is None:
            del document["dropped"]
        return document


def build_recipe(recipe: str, task: str | None, fidelity: str | None, output: Path, seed: int,
                 directory: Path, profile: str | None = None) -> RecipeFigures:
    """Build a recipe and write model.onnx, module.pt, checkpoint.pt, recipe.toml and figures.json
    into ``output``. module.pt is the torch module (``builders.torch_module``), checkpoint.pt its
    weights alone.

    ``recipe`` is a file, or a candidate ``campaign/number``. ``fidelity`` defaults to that of the
    candidate, else to full; a candidate whose file was repaired only can be trained, too, as its
    search would have done. Builds are cached in ``directory/builds`` together with those of
    campaigns. ``target`` in the figures says what the file was built for: ``profile`` if given,
    else the enrolled device of the candidate's campaign, else local_cpu. ``dropped`` says whether
    the new file equals a dropped one. Raises UserError and BuildError.
    """
    if fidelity is not None and fidelity not in FIDELITIES:
        raise UserError(f"fidelity {fidelity!r} is unknown. {nearest(fidelity, FIDELITIES)}")
    requested = _requested_build(recipe, task, seed, directory, fidelity)
    fidelity = requested.fidelity
    device, known = _target_device(profile, requested.campaign, directory)
    target = target_of(known.profile)
    # The same as in builders: several threads slow each other down when other programs run.
    torch.set_num_threads(1)
    with owned(directory):
        builder = Builder(task_of(requested.task), requested.seed, directory / "builds")
        try:
            repair = requested.repair or fidelity == REPAIRED
            build = (builder.train(requested.recipe, fidelity, target, repair, requested.epochs)
                     if fidelity in TRAINED else
                     builder.compress(requested.recipe, target, fidelity == REPAIRED))
        except BuildError as error:
            raise UserError(f"The recipe cannot be built ({error.reason}): {error}") from error
        baseline = builder.train(Recipe(), "full", target)
        built_for = BuiltFor(
            device, known.profile.name, target.opset, target.ir_version,
            sorted(target.number_formats), list(known.contradictions))
        output.mkdir(parents=True, exist_ok=True)
        model = builder.model(requested.recipe, fidelity, repair and fidelity != UNTRAINED,
                              requested.epochs)
        stored = torch_module.store(model, output, left_out(requested.recipe))
        figures = _figures(builder, build, baseline, requested, fidelity, built_for, stored)
        (output / "model.onnx").write_bytes(build.content)
        (output / "recipe.toml").write_text(requested.recipe.as_toml())
        (output / FIGURES).write_text(json.dumps(figures.as_document(), indent=2))
        torch.save(model.state_dict(), output / "checkpoint.pt")
    return figures


@dataclass(frozen=True)
class RequestedBuild:
    """What to build. For a candidate also its campaign and, if its file was dropped, the sha256 of
    that file in ``dropped``; ``repair`` and ``epochs`` are then those of its file."""

    recipe: Recipe
    task: str
    seed: int
    fidelity: str = "full"
    repair: bool = True
    epochs: Mapping[str, int] = field(default_factory=dict)
    dropped: str | None = None
    campaign: Campaign | None = None


def _requested_build(recipe: str, task: str | None, seed: int, directory: Path,
                     fidelity: str | None = None) -> RequestedBuild:
    """From a recipe file or the name of a candidate; ``fidelity`` if another one is wanted than
    that of the candidate. Raises UserError."""
    if recipe.endswith(".toml") or Path(recipe).is_file():
        if task is None:
            raise UserError("A recipe file needs --task, such as --task lenet5-mnist.")
        return RequestedBuild(Recipe.from_toml(Path(recipe)), task, seed, fidelity or "full")
    reading = Reading(directory)
    candidate = reading.candidate(recipe)
    _, campaign = reading.campaign(candidate.trial.campaign)
    sha256 = candidate.trial.sha256
    with reading.ledger() as db:
        build = builds.of_file(db, sha256) if sha256 else None
        job = jobs.get(db, build.job) if build else None
    first = request_of(job) if job and job.kind in BUILDING else None
    how = first if isinstance(first, BuildRequest) else None
    fidelity = fidelity or (build.fidelity if build else "full")
    state = reading.search_states(campaign.name).get(candidate.trial.device)
    return RequestedBuild(
        candidate.asked if fidelity in TRAINED else candidate.recipe, task or campaign.task,
        campaign.seed, fidelity, how.repair if how else True,
        (how.epochs if how else {}) or (state.epochs if state else {}),
        sha256 if sha256 and not reading.artifact(sha256).is_file() else None, campaign)


def _target_device(profile: str | None, campaign: Campaign | None,
              directory: Path) -> tuple[str | None, Compared]:
    """The device that the file is for, if it is in the ledger, and its profile."""
    if profile is not None or campaign is None:
        try:
            return None, Compared(schema.profile(profile or "local_cpu"), ())
        except schema.ProfileError as error:
            raise UserError(str(error)) from error
    name = campaign.devices[0]
    with Reading(directory).ledger() as db:
        row = devices.device(db, name)
    reported: tuple[str | None, Mapping[str, object], Mapping[str, object]] = (
        (None, {}, {}) if row is None else (row.profile, row.fingerprint, row.capabilities))
    return None if row is None else name, of_campaign(name, name in campaign.named, *reported)


def _figures(builder: Builder, build: Build, baseline: Build, requested: RequestedBuild,
             fidelity: str, built_for: BuiltFor, stored: TorchModule) -> RecipeFigures:
    evaluation = build.evaluation or builder.evaluate(build.content, "validation")
    quality = quality_of_metric(evaluation.metric, evaluation.value)
    reference = baseline.evaluation or builder.evaluate(baseline.content, "validation")
    lost, lost_interval = _scored(reference).drop(_scored(evaluation))
    intervals = {quality.name: evaluation.interval, DROP: lost_interval}
    return RecipeFigures(
        requested.task, fidelity, requested.seed, requested.recipe.as_list(), build.sha256,
        build.key,
        {quality.name: evaluation.value, DROP: lost, "file_bytes": len(build.content),
         "macs": build.report.macs, "parameters": build.report.parameters},
        {name: list(found) for name, found in intervals.items() if found is not None},
        BaselineFigures(reference.value, len(baseline.content), baseline.report.macs,
                        baseline.sha256),
        len(baseline.content) / len(build.content), build.report.layers,
        {"built": build.built_steps, "reused": build.reused_steps}, built_for, quality, stored,
        None if requested.dropped is None else DroppedFile(
            requested.dropped, build.sha256 == requested.dropped))


def _scored(evaluation: Evaluation) -> ScoredSplit:
    return ScoredSplit(evaluation.metric, evaluation.value, evaluation.n, evaluation.scores,
                       evaluation.interval)
