"""Job kinds ``compress`` and ``train``: build a recipe without training, or to a fidelity."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from profiles import number_formats
from searcher.documents import parse
from searcher.errors import ProtocolError, UserError, nearest
from searcher.jobs import fields
from searcher.jobs.base import JobKind, JobRequest, Ledger
from searcher.jobs.evaluate import EvaluationResult, store_evaluation, with_scores
from searcher.ledger.rows import JobRow
from searcher.ledger.tables import builds
from searcher.ledger.tables.evaluations import HOST
from searcher.spec.fidelity import REPAIRED, TRAINED, UNTRAINED
from searcher.spec.recipe import Recipe
from strategies.target import Target

MOST_PROBE_OUTPUTS = 65_536
MOST_EPOCHS = 100_000


@dataclass(frozen=True)
class GraphCosts:
    """Costs of a file, counted on its graph."""

    macs: int
    parameters: int = 0
    layers: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True)
class BuildResult:
    """The file of a build.

    ``built_steps`` is the number of steps that ran, ``reused_steps`` the number from the builders'
    cache. For a rebuild, ``difference`` is None if the bytes are equal.
    """

    sha256: str
    file_bytes: int
    report: GraphCosts
    build_key: str = ""
    graph_key: str = ""
    evaluation: EvaluationResult | None = None
    built_steps: int = 0
    reused_steps: int = 0
    cached_bytes: int = 0
    difference: Mapping[str, object] | None = None


@dataclass(frozen=True)
class BuildRequest(JobRequest[BuildResult]):
    """A recipe to build for a task and a target.

    ``threads`` is set only for training: it determines the order of floating-point sums, and
    therefore the bytes. ``rebuild_of`` is the sha256 of a dropped file that is built again.
    ``repair`` repairs weights on calibration samples before any training: what is not trained is
    then ``repaired``, and evaluated. ``epochs`` of fidelities replace those of the task.
    """

    task: str
    recipe: Recipe
    seed: int
    target: Target = field(default_factory=Target)
    fidelity: str = UNTRAINED
    threads: int | None = None
    rebuild_of: str | None = None
    repair: bool = False
    epochs: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fidelity == UNTRAINED and self.repair:
            object.__setattr__(self, "fidelity", REPAIRED)
        if self.fidelity == REPAIRED:
            object.__setattr__(self, "repair", True)

    @property
    def kind(self) -> str:
        return "train" if self.fidelity in TRAINED else "compress"

    def payload(self) -> dict[str, object]:
        trained: dict[str, object] = {"fidelity": self.fidelity} if self.kind == "train" else {}
        if self.repair:
            trained["repair"] = True
        if self.epochs:
            trained["epochs"] = dict(self.epochs)
        threads = {} if self.threads is None else {"threads": self.threads}
        rebuilt = {} if self.rebuild_of is None else {"rebuild_of": self.rebuild_of}
        return {"task": self.task, "recipe": self.recipe.as_list(), "seed": self.seed,
                "target": self.target.as_dict(), **trained, **threads, **rebuilt}

    def result(self, document: Mapping[str, object]) -> BuildResult:
        found = document.get("evaluation")
        evaluation = with_scores(found) if isinstance(found, Mapping) else None
        return parse(BuildResult, {**document, "evaluation": evaluation})

    def named_task(self) -> str:
        return self.task


def target_of(document: object) -> Target:
    """Parse a target. Raises ProtocolError (400)."""
    table = fields.table_of(document, "target")
    unknown = sorted(set(table) - set(Target.__dataclass_fields__))
    if unknown:
        raise ProtocolError(f"target: unknown key {unknown[0][:40]!r}. "
                            f"{nearest(unknown[0], Target.__dataclass_fields__)}")
    try:
        return parse(Target, table)
    except ValueError as error:
        raise ProtocolError(f"target: {error}.") from error


def _flag(payload: Mapping[str, object], name: str) -> bool:
    value = payload.get(name, False)
    if not isinstance(value, bool):
        raise ProtocolError(f"{name} = {value!r} must be true or false.")
    return value


def _epochs(payload: Mapping[str, object]) -> dict[str, int]:
    """Those of each fidelity, from the start, so that none has fewer than the one before."""
    table = fields.table_of(payload.get("epochs", {}), "epochs")
    unknown = sorted(set(table) - set(TRAINED))
    if unknown:
        raise ProtocolError(f"epochs: unknown key {unknown[0][:40]!r}. "
                            f"{nearest(unknown[0], TRAINED)}")
    epochs = {name: fields.whole_of(table[name], f"epochs.{name}", 1, MOST_EPOCHS)
              for name in TRAINED if name in table}
    if list(epochs.values()) != sorted(epochs.values()):
        raise ProtocolError(f"epochs = {epochs}: they count from the start, none may be below the "
                            "one before.")
    return epochs


class _BuildKind(JobKind):
    span: ClassVar[str] = "build"

    def _request(self, payload: Mapping[str, object], fidelity: str) -> BuildRequest:
        steps = fields.list_of(payload.get("recipe"), "recipe", 64)
        try:
            recipe = Recipe.from_list([fields.table_of(step, "recipe step") for step in steps])
        except UserError as error:
            raise ProtocolError(str(error)) from error
        threads, rebuilt = payload.get("threads"), payload.get("rebuild_of")
        return BuildRequest(
            fields.text_of(payload.get("task"), "task"), recipe,
            fields.whole_of(payload.get("seed"), "seed"), target_of(payload.get("target")),
            fidelity, None if threads is None else fields.whole_of(threads, "threads", 1, 4096),
            None if rebuilt is None else fields.sha256_of(rebuilt, "rebuild_of"),
            _flag(payload, "repair"), _epochs(payload))

    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        return _store_build(ledger, job, self.parse(job.payload), result)

    @abstractmethod
    def parse(self, payload: Mapping[str, object]) -> BuildRequest:
        """See ``JobKind.parse``."""


class Compress(_BuildKind):
    """Applies a recipe, without its training steps, to the trained baseline. With ``repair`` the
    weights are repaired on unlabelled samples, and the file is evaluated on validation."""

    name: ClassVar[str] = "compress"
    execution: ClassVar[str] = "searcher.builders.work:compress"

    def parse(self, payload: Mapping[str, object]) -> BuildRequest:
        return self._request(payload, UNTRAINED)


class Train(_BuildKind):
    """Builds a recipe with training to a fidelity, and evaluates it on the validation split."""

    name: ClassVar[str] = "train"
    execution: ClassVar[str] = "searcher.builders.work:train"

    def parse(self, payload: Mapping[str, object]) -> BuildRequest:
        fidelity = fields.text_of(payload.get("fidelity"), "fidelity", 20)
        if fidelity not in TRAINED:
            raise ProtocolError(f"fidelity = {fidelity!r} must be one of {list(TRAINED)}.")
        return self._request(payload, fidelity)


BUILDING = (Compress.name, Train.name)
"""The kinds whose jobs build recipes."""


def _store_build(
    ledger: Ledger, job: JobRow, request: BuildRequest, result: Mapping[str, object]
) -> dict[str, object]:
    db, now_s = ledger.db, ledger.now_s
    key = fields.text_of(result.get("build_key"), "build_key", 200)
    sha256 = fields.sha256_of(result.get("sha256"), "sha256")
    file_bytes = fields.whole_of(result.get("file_bytes"), "file_bytes", 1)
    graph_key = fields.text_of(result.get("graph_key"), "graph_key", 200)
    report = fields.table_of(result.get("report"), "report")
    _check_file(ledger.artifacts, sha256, file_bytes)
    number_format = fields.text_of(
        result.get("number_format", number_formats.DEFAULT), "number_format", 40)
    outputs = result.get("probe_outputs")
    probe_outputs = None if outputs is None else [
        fields.number_of(value, "probe_outputs")
        for value in fields.list_of(outputs, "probe_outputs", MOST_PROBE_OUTPUTS)
    ]
    builds.put_recipe(db, request.recipe.hash, request.recipe.as_list())
    builds.put(
        db, key, request.task, request.recipe.hash, request.seed, request.fidelity, sha256,
        file_bytes, graph_key, report, job.id, now_s,
    )
    builds.put_artifact(
        db, sha256, file_bytes, now_s, key, request.target.as_dict(), number_format,
        probe_outputs)
    evaluation = result.get("evaluation")
    return {
        "build_key": key, "sha256": sha256, "file_bytes": file_bytes, "graph_key": graph_key,
        "report": report,
        "evaluation": None if evaluation is None else store_evaluation(
            ledger, job, fields.table_of(evaluation, "evaluation"), sha256, request.task, None,
            HOST),
        "built_steps": fields.whole_of(result.get("built_steps", 0), "built_steps"),
        "reused_steps": fields.whole_of(result.get("reused_steps", 0), "reused_steps"),
        "cached_bytes": fields.whole_of(result.get("cached_bytes", 0), "cached_bytes"),
    }


def _check_file(artifacts: Path, sha256: str, file_bytes: int) -> None:
    try:
        found = (artifacts / sha256).stat().st_size
    except OSError as error:
        raise ProtocolError(f"The artifact {sha256} is not in the folder of artifacts.") \
            from error
    if found != file_bytes:
        raise ProtocolError(f"The artifact {sha256} has {found} bytes, not {file_bytes}.")
