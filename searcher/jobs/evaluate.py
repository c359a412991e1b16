"""Job kind ``evaluate``: compute the metric of a file on a split.

The builder runs the file, or uses outputs that a device computed (job kind ``infer``).
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from searcher.artifacts.formats import registry as formats
from searcher.documents import parse
from searcher.errors import ProtocolError
from searcher.jobs import fields, infer
from searcher.jobs.base import JobKind, JobRequest, Ledger
from searcher.ledger.rows import EvaluationRow, JobRow
from searcher.ledger.tables import builds, evaluations
from searcher.ledger.tables.evaluations import HOST, Judged
from searcher.statistics.sample_labels import MOST_NAMES
from searcher.statistics.score_codec import BITS, unpack

MOST_LABELS = 8
LONGEST_NAME = 200


@dataclass(frozen=True)
class EvaluationResult:
    """The metric of a file on a split.

    ``scores`` are the packed rows of all samples in base64, ``encoding`` says how they are packed
    (``statistics.score_codec``); None where they were too large. ``low`` and ``high`` are the 95 %
    interval of ``value``, None where it has none. ``place`` is where the outputs were computed.
    """

    metric: str
    value: float
    n: int
    scores: str | None = None
    encoding: str | None = None
    low: float | None = None
    high: float | None = None
    place: str = HOST
    id: int | None = None
    sha256: str = ""
    split: str = "validation"

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def content(self) -> bytes | None:
        """The packed scores."""
        return None if self.scores is None else base64.b64decode(self.scores)


def with_scores(document: Mapping[str, object]) -> Mapping[str, object]:
    """An evaluation of today from one of an older version, whose ``correct`` has one bit per
    sample. Others are unchanged."""
    if "correct" not in document:
        return document
    rest = {key: value for key, value in document.items() if key != "correct"}
    return {**rest, "scores": document["correct"], "encoding": BITS}


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
        return parse(EvaluationResult, with_scores(fields.table_of(
            document.get("evaluation"), "evaluation")))

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
        place = HOST if request.outputs is None else infer.place_of(
            ledger.db, request.sha256, request.outputs.job, request.outputs.sha256)
        if builds.artifact(ledger.db, request.sha256) is None:
            try:
                file_bytes = (ledger.artifacts / request.sha256).stat().st_size
            except OSError as error:
                raise ProtocolError(f"There is no artifact {request.sha256}.") from error
            builds.put_artifact(ledger.db, request.sha256, file_bytes, ledger.now_s)
        evaluation = fields.table_of(result.get("evaluation"), "evaluation")
        return {"evaluation": store_evaluation(
            ledger, job, evaluation, request.sha256, request.task, request.split, place)}


def store_evaluation(
    ledger: Ledger, job: JobRow, result: Mapping[str, object], sha256: str, task: str,
    split: str | None, place: str,
) -> dict[str, object]:
    """Store an evaluation with the labels of its samples, and return it. If the ledger has one for
    this artifact, task, split, place and metric, return that one. Raises ProtocolError."""
    result = with_scores(result)
    split = split or fields.text_of(result.get("split", "validation"), "split", 20)
    metric = fields.text_of(result.get("metric"), "metric", 200)
    value = fields.number_of(result.get("value"), "value")
    n = fields.whole_of(result.get("n"), "n", 1, 2**31)
    content, encoding = _scores(result, n)
    row = evaluations.put(
        ledger.db, Judged(sha256, task, split, place, metric), value, n, _interval(result),
        content, encoding, job.id, ledger.now_s)
    labels = result.get("labels")
    for entry in [] if labels is None else fields.list_of(labels, "labels", MOST_LABELS):
        _store_labels(ledger, row, fields.table_of(entry, "labels"))
    return {
        "id": row.id, "sha256": sha256, "split": split, "place": row.place, "metric": row.metric,
        "value": row.value, "n": row.n, "low": row.low, "high": row.high,
        "scores": None if row.scores is None else base64.b64encode(row.scores).decode(),
        "encoding": row.encoding,
    }


def _interval(result: Mapping[str, object]) -> tuple[float, float] | None:
    if result.get("low") is None and result.get("high") is None:
        return None
    low = fields.number_of(result.get("low"), "low")
    return low, fields.number_of(result.get("high"), "high", low)


def _scores(result: Mapping[str, object], n: int) -> tuple[bytes | None, str | None]:
    if result.get("scores") is None:
        return None, None
    encoding = fields.text_of(result.get("encoding"), "encoding", 40)
    return _packed(result["scores"], encoding, n, "scores"), encoding


def _packed(value: object, encoding: str, n: int, where: str) -> bytes:
    """The bytes of a packed array, if they unpack to ``n`` rows."""
    try:
        content = base64.b64decode(str(value or ""), validate=True)
        unpack(content, encoding, n)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(f"{where} cannot be unpacked: {error}.") from error
    return content


def _store_labels(ledger: Ledger, row: EvaluationRow, labels: Mapping[str, object]) -> None:
    kind = fields.text_of(labels.get("kind"), "labels.kind", 20)
    if kind not in ("class", "group"):
        raise ProtocolError(f"labels.kind = {kind!r} must be \"class\" or \"group\".")
    names = [fields.text_of(name, "labels.names", LONGEST_NAME)
             for name in fields.list_of(labels.get("names"), "labels.names", MOST_NAMES)]
    encoding = fields.text_of(labels.get("encoding"), "labels.encoding", 40)
    codes = _packed(labels.get("codes"), encoding, row.n, "labels.codes")
    found = unpack(codes, encoding, row.n)
    if found.ndim != 1 or found.dtype.kind != "u" or int(found.max()) >= len(names):
        raise ProtocolError(f"labels.codes must be whole numbers below {len(names)}, the number of "
                            f"names, in {encoding[:40]!r}.")
    evaluations.put_labels(ledger.db, row.id, kind, names, row.n, codes, encoding)
