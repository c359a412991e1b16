"""Evaluations of any metric become rows of the ledger: scores, intervals and labels."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searcher.jobs.evaluate import EvaluateRequest
from searcher.ledger.rows import JobRow
from searcher.ledger.tables import evaluations, jobs
from searcher.statistics.score_codec import pack, unpack
from tests.searcher_tests.dispatch.laboratory import Laboratory, envelope, evaluation


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def ended(lab: Laboratory, job: JobRow) -> JobRow:
    found = jobs.get(lab.store.db, job.id)
    assert found is not None
    return found


def evaluated(lab: Laboratory, payload: dict[str, Any], document: dict[str, Any]) -> JobRow:
    builder = lab.builder()
    lab.coordinator.submit("evaluate", "builder", payload)
    job = lab.leased(builder)
    lab.put(builder, job, envelope({"evaluation": document}))
    return ended(lab, job)


def test_the_first_evaluation_counts(lab: Laboratory) -> None:
    file = lab.artifact(b"model")
    payload = {"task": "lenet5-mnist", "sha256": file["sha256"], "split": "test"}
    for value, more in ((0.75, {}), (0.5, {"format": "onnx-too"})):
        result = evaluated(lab, {**payload, **more}, evaluation(value)).result
        assert result is not None and result["evaluation"]["value"] == 0.75


def test_the_same_file_has_an_evaluation_for_each_task_and_metric(lab: Laboratory) -> None:
    """Tasks with the same trained model have the same baseline, but other data."""
    file = lab.artifact(b"model")
    payload = {"task": "lenet5-mnist", "sha256": file["sha256"], "split": "test"}
    told = [(payload, evaluation(0.75)), ({**payload, "task": "mine:task"}, evaluation(0.5)),
            ({**payload, "format": "onnx-too"}, {**evaluation(0.25), "metric": "f1_macro"})]
    for asked, document in told:
        result = evaluated(lab, asked, document).result
        assert result is not None and result["evaluation"]["value"] == document["value"]


def test_an_evaluation_of_an_older_builder_is_stored(lab: Laboratory) -> None:
    file = lab.artifact(b"model")
    document = {"metric": "accuracy", "value": 0.75, "n": 8,
                "correct": base64.b64encode(b"\xfc").decode()}
    job = evaluated(lab, {"task": "t", "sha256": file["sha256"], "split": "test"}, document)
    [row] = evaluations.of_file(lab.store.db, file["sha256"])
    assert (row.scores, row.encoding, row.low) == (b"\xfc", "bits", None)
    request = EvaluateRequest("t", file["sha256"], "test")
    assert request.result({"evaluation": document}).content == b"\xfc", "of an older ledger"
    assert request.result(job.result or {}).content == b"\xfc"


SCORES = np.array([[0.5, 1.5], [2.5, 0.25]])


def packed(name: str, rows: np.ndarray) -> dict[str, str]:
    content, encoding = pack(rows)
    return {name: base64.b64encode(content).decode(), "encoding": encoding}


def scored(**changes: Any) -> dict[str, Any]:
    """An evaluation of two samples with scores of two columns."""
    return {"metric": "angle_error", "value": 1.5, "n": 2, "low": 1.0, "high": 2.0,
            **packed("scores", SCORES), **changes}


def labels(*codes: int, **changes: Any) -> dict[str, Any]:
    return {"kind": "group", "names": ["dark", "light"],
            **packed("codes", np.array(codes, np.uint8)), **changes}


def test_scores_intervals_and_labels_are_stored(lab: Laboratory) -> None:
    files = [lab.artifact(name) for name in (b"one", b"two")]
    for file in files:
        job = evaluated(lab, {"task": "t", "sha256": file["sha256"], "split": "test"},
                        scored(labels=[labels(0, 1)]))
        result = EvaluateRequest("t", file["sha256"], "test").result(job.result or {})
        assert result.interval == (1.0, 2.0) and result.content is not None
        assert (unpack(result.content, result.encoding or "", 2) == SCORES).all()
        [row] = evaluations.of_file(lab.store.db, file["sha256"])
        [found] = evaluations.labels(lab.store.db, row.id)
        assert (found.kind, found.names, found.n) == ("group", ["dark", "light"], 2)
        assert unpack(found.codes, found.encoding, 2).tolist() == [0, 1]
    assert lab.store.db.execute("SELECT count(*) FROM labels").fetchone() == (1,), "stored once"


def test_an_evaluation_without_scores_is_stored(lab: Laboratory) -> None:
    file = lab.artifact(b"model")
    document = {"metric": "angle_error", "value": 1.5, "n": 2}
    job = evaluated(lab, {"task": "t", "sha256": file["sha256"], "split": "test"}, document)
    result = EvaluateRequest("t", file["sha256"], "test").result(job.result or {})
    assert (result.value, result.content, result.interval) == (1.5, None, None)


@pytest.mark.parametrize(("document", "said"), [
    (scored(n=3), "scores cannot be unpacked: scores have 32 bytes, expected 48"),
    (scored(encoding="float64"), "scores have 17 bytes, expected 16"),
    (scored(encoding="complex128"), "unknown encoding of scores 'complex128'"),
    (scored(encoding=None), "encoding = 'None' must have"),
    (scored(scores="not base64"), "scores cannot be unpacked"),
    (scored(scores=3), "scores cannot be unpacked"),
    (scored(n=2**31), "2147483648 rows of float64x2 exceed"),
    (scored(low=2.0, high=1.0), "high = 1.0 must be finite and at least 2"),
    (scored(low=1.0, high=None), "high = 'None' must be a number"),
    (scored(labels={}), "labels must be a list"),
    (scored(labels=[labels(0, 1, kind="colour")]), 'labels.kind = \'colour\' must be "class"'),
    (scored(labels=[labels(0, 2)]), "labels.codes must be whole numbers below 2"),
    (scored(labels=[labels(0, 1, 1)]), "labels.codes cannot be unpacked"),
    (scored(labels=[labels(0, 1, names=["dark", 1])]), "labels.names = '1'"),
    (scored(labels=[labels(0, 1, names=["n"] * 10_001)]), "at most 10000 entries"),
    (scored(labels=[{**labels(0, 1), **packed("codes", np.array([-1, 0], np.int8))}]),
     "labels.codes must be whole numbers"),
])
def test_a_malformed_evaluation_is_named(
        lab: Laboratory, document: dict[str, Any], said: str) -> None:
    file = lab.artifact(b"model")
    job = evaluated(lab, {"task": "t", "sha256": file["sha256"], "split": "test"}, document)
    assert job.reason == "malformed_result" and said in str(job.message)
    assert evaluations.of_file(lab.store.db, file["sha256"]) == []
