"""Job kind ``evaluate``: compute the metric of a file on a split.

The builder runs the file, or uses outputs that a device computed (job kind ``infer``).
"""

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from searcher.artifacts.formats import registry as formats
from searcher.documents import parse
from searcher.errors import ProtocolError
from searcher.jobs import fields, infer
from searcher.jobs.base import JobKind, JobRequest, Ledger
from searcher.ledger.rows import JobRow
from searcher.ledger.tables import builds


@dataclass(frozen=True)
class EvaluationResult:
    """Metric of a file on a split.

    ``correct`` is one bit per sample (``numpy.packbits``) in base64. ``place`` is where the outputs
    were computed.
    """

    metric: str
    value: float
    n: int
    correct: str
    place: str = builds.HOST
    id: int | None = None
    sha256: str = ""
    split: str = "validation"

    @property
    def bits(self) -> bytes:
        return base64.b64decode(self.correct)


@dataclass(frozen=True)
class DeviceOutputs:
    """The file of outputs that the ``infer`` job ``job`` produced."""

    job: int
    sha256: str


@dataclass(frozen=True)
class EvaluateRequest(JobRequest[EvaluationResult]):
    """A file to evaluate. The builder runs it, unless ``outputs`` are given."""

    task: str
    sha256: str
    split: str
    outputs: DeviceOutputs | None = None
    file_format: str = formats.DEFAULT

    @property
    def kind(self) -> str:
        return Evaluate.name

    def payload(self) -> dict[str, object]:
        outputs = {} if self.outputs is None else {
            "outputs": {"job": self.outputs.job, "sha256": self.outputs.sha256}}
        other = {} if self.file_format == formats.DEFAULT else {"format": self.file_format}
        return {"task": self.task, "sha256": self.sha256, "split": self.split, **outputs, **other}

    def result(self, document: Mapping[str, object]) -> EvaluationResult:
        return parse(EvaluationResult, document["evaluation"])

    def files(self) -> tuple[str]:
        return (self.sha256 if self.outputs is None else self.outputs.sha256,)

    def models(self) -> tuple[str, ...]:
        return self.files() if self.outputs is None else ()

    def named_task(self) -> str:
        return self.task


class Evaluate(JobKind):
    """See ``EvaluateRequest``."""

    name: ClassVar[str] = "evaluate"
    span: ClassVar[str] = "evaluate"
    execution: ClassVar[str] = "searcher.builders.work:evaluate"

    def parse(self, payload: Mapping[str, object]) -> EvaluateRequest:
        split = fields.text_of(payload.get("split"), "split", 20)
        if split not in ("validation", "test"):
            raise ProtocolError(f"split = {split!r} must be \"validation\" or \"test\".")
        outputs = None
        if payload.get("outputs") is not None:
            found = fields.table_of(payload["outputs"], "outputs")
            outputs = DeviceOutputs(fields.whole_of(found.get("job"), "outputs.job"),
                                    fields.sha256_of(found.get("sha256"), "outputs.sha256"))
        return EvaluateRequest(
            fields.text_of(payload.get("task"), "task"),
            fields.sha256_of(payload.get("sha256"), "sha256"), split, outputs,
            fields.format_of(payload))

    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        request = self.parse(job.payload)
        place = builds.HOST if request.outputs is None else infer.place_of(
            ledger.db, request.sha256, request.outputs.job, request.outputs.sha256)
        if builds.artifact(ledger.db, request.sha256) is None:
            try:
                file_bytes = (ledger.artifacts / request.sha256).stat().st_size
            except OSError as error:
                raise ProtocolError(f"There is no artifact {request.sha256}.") from error
            builds.put_artifact(ledger.db, request.sha256, file_bytes, ledger.now_s)
        evaluation = fields.table_of(result.get("evaluation"), "evaluation")
        return {"evaluation": store_evaluation(
            ledger, job, evaluation, request.sha256, request.split, place)}


def store_evaluation(
    ledger: Ledger, job: JobRow, result: Mapping[str, object], sha256: str, split: str | None,
    place: str,
) -> dict[str, object]:
    """Store an evaluation and return it. If the ledger has one for this artifact, split and place,
    return that one unchanged. Raises ProtocolError."""
    split = split or fields.text_of(result.get("split", "validation"), "split", 20)
    metric = fields.text_of(result.get("metric"), "metric", 40)
    value = fields.number_of(result.get("value"), "value")
    n = fields.whole_of(result.get("n"), "n", 1, 2**31)
    try:
        correct = base64.b64decode(str(result.get("correct") or ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(f"correct is not base64: {error}.") from error
    if len(correct) != math.ceil(n / 8):
        raise ProtocolError(f"correct has {len(correct)} bytes for n = {n} samples.")
    evaluation_id = builds.put_evaluation(
        ledger.db, sha256, split, place, metric, value, n, correct, job.id, ledger.now_s)
    row = builds.evaluation_by_id(ledger.db, evaluation_id)
    if row is None:
        raise ProtocolError(f"evaluation {evaluation_id} was not stored.")
    return {
        "id": row.id, "sha256": sha256, "split": split, "place": row.place, "metric": row.metric,
        "value": row.value, "n": row.n, "correct": base64.b64encode(row.correct).decode(),
    }
