"""A result becomes rows of the ledger, or its job fails with a reason."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import protocol
from searcher.errors import ProtocolError
from searcher.jobs.measure import MOST_RAIL_BYTES
from searcher.jobs.results import content_of
from searcher.jobs.samples import unpacked
from searcher.ledger.rows import AgentRow, JobRow
from searcher.ledger.tables import builds, evaluations, jobs, measurements
from tests.searcher_tests.dispatch.laboratory import (
    RAILS,
    Laboratory,
    build_result,
    envelope,
    evaluation,
    measure_payload,
    measure_result,
    measured,
)
from tests.stored_rows import measurements_of_job


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def ended(lab: Laboratory, job: JobRow) -> JobRow:
    found = jobs.get(lab.store.db, job.id)
    assert found is not None
    return found


def measuring(lab: Laboratory, candidates: int = 1, attempt: int = 1,
              **options: Any) -> tuple[AgentRow, JobRow]:
    agent = lab.device()
    files = [lab.artifact(f"candidate {i}".encode()) for i in range(candidates)]
    payload = {**measure_payload(lab.artifact(b"reference"), *files), "attempt": attempt}
    payload["options"] |= options
    lab.coordinator.submit("measure", "device:local_cpu", payload)
    return agent, lab.leased(agent)


def test_a_build_is_stored(lab: Laboratory) -> None:
    builder = lab.builder()
    lab.compress()
    job = lab.leased(builder)
    lab.done(builder, job)
    result = ended(lab, job).result
    assert result is not None
    build = builds.get(lab.store.db, result["build_key"])
    assert build is not None and build.fidelity == "untrained" and build.job == job.id
    artifact = builds.artifact(lab.store.db, result["sha256"])
    assert artifact is not None and artifact.build_key == build.key
    assert artifact.target == job.payload["target"]
    assert builds.expectation(lab.store.db, result["sha256"])[0] == [0.25, 0.75]
    assert builds.recipe(lab.store.db, build.recipe) == job.payload["recipe"]
    [row] = evaluations.of_file(lab.store.db, result["sha256"])
    assert (row.value, row.n, row.scores, row.encoding) == (0.75, 8, b"\xfc", "bits")
    assert (row.split, row.place, row.metric) == ("validation", "host", "accuracy")
    assert result["evaluation"]["id"] == row.id
    assert result["evaluation"]["scores"] == evaluation()["scores"]
    assert "probe_outputs" not in result


def test_a_measurement_is_stored_with_its_samples(lab: Laboratory) -> None:
    agent, job = measuring(lab, candidates=2)
    lab.done(agent, job)
    result = ended(lab, job).result
    assert result is not None and len(result["measurements"]) == 2
    shown = result["measurements"][0]
    row = measurements.get(lab.store.db, shown["measurement"])
    assert row is not None and row.verdict == "valid" == shown["verdict"]
    assert shown["ratio"] == row.ratio == pytest.approx(0.5, rel=0.01)
    assert row.latency_s == pytest.approx((row.ratio or 0) * 1e-4)
    assert row.n == 12 and row.conditions["after"] == {"load_1min": 0.2}
    assert measurements.environment(lab.store.db, row.environment) == {
        "identity": {"hostname": "workbench"}, "runtime": {"onnxruntime": "1.32.0"},
        "governor": None}
    samples = measurements.samples(lab.store.db, row.id)
    assert samples is not None and len(samples.calls_ns) == 36
    assert samples.before_s == [1e-4] * 12 and samples.sample_blocks == [3] * 12
    levels = measurements.quiet_levels(lab.store.db, "local_cpu")
    assert [level.level_s for level in levels] == [1e-4]


def test_raw_rails_are_stored_with_the_summary(lab: Laboratory) -> None:
    agent, job = measuring(lab, candidates=2)
    result = measure_result(job.payload)
    result["measurements"][0]["energy"] = {"problem": "", "gross_j": 0.5, "rails": RAILS}
    result["measurements"][1]["energy"] = {"problem": "no meter: none"}
    lab.put(agent, job, envelope(result))
    first, second = measurements_of_job(lab.store.db, job.id)
    assert measurements.rails(lab.store.db, first.id) == RAILS
    told = first.conditions["energy"]
    assert told["gross_j"] == 0.5 and "rails" not in told
    assert first.summary is not None and first.summary["energy"] == told
    assert measurements.rails(lab.store.db, second.id) == []
    assert [row["measurement"] for row in lab.store.db.query("SELECT measurement FROM rails")] == [
        first.id]


def test_rails_over_the_size_limit_are_refused(lab: Laboratory) -> None:
    agent, job = measuring(lab)
    result = measure_result(job.payload)
    rail = {**RAILS[0], "values": "A" * (MOST_RAIL_BYTES + 1)}
    result["measurements"][0]["energy"] = {"problem": "", "rails": [rail]}
    lab.put(agent, job, envelope(result))
    found = ended(lab, job)
    assert found.reason == "malformed_result" and "rails" in (found.message or "")


def test_latency_is_the_ratio_times_the_lowest_level_known(lab: Laboratory) -> None:
    agent, job = measuring(lab)
    lab.done(agent, job)
    agent, again = measuring(lab, attempt=2)
    lab.put(agent, again, envelope(measure_result(again.payload, level_s=1.1e-4)))
    result = ended(lab, again).result
    assert result is not None and result["quiet_level_s"] == 1e-4
    shown = result["measurements"][0]
    assert shown["latency_s"] == pytest.approx(shown["ratio"] * 1e-4)


def test_quiet_levels_depend_on_the_options(lab: Laboratory) -> None:
    for options, level_s in (({}, 1e-4), ({"threads": 2}, 5e-5), ({}, 1.1e-4)):
        agent, job = measuring(lab, attempt=round(level_s * 1e6), **options)
        lab.put(agent, job, envelope(measure_result(job.payload, level_s=level_s)))
    result = ended(lab, job).result
    assert result is not None and result["quiet_level_s"] == 1e-4, "not that of two threads"


@pytest.mark.parametrize(("outputs", "provider", "verdict"), [
    ([0.25, 0.5], "CPUExecutionProvider", "invalid"),
    ([0.253, 0.75], "CPUExecutionProvider", "invalid"),
    ([0.253, 0.75], "CUDAExecutionProvider", "valid"),
    ([0.25, 0.5], "CUDAExecutionProvider", "invalid")])
def test_wrong_outputs_are_invalid(
    lab: Laboratory, outputs: list[float], provider: str, verdict: str
) -> None:
    """A GPU may compute float32 with fewer bits."""
    builder, agent = lab.builder(), lab.device()
    lab.compress()
    build = lab.leased(builder)
    lab.done(builder, build)
    built = ended(lab, build).result
    assert built is not None
    file = {"sha256": built["sha256"], "size_bytes": built["file_bytes"]}
    payload = measure_payload(lab.artifact(b"reference"), file)
    lab.coordinator.submit("measure", "device:local_cpu", payload)
    job = lab.leased(agent)
    result = measure_result(job.payload)
    result["measurements"][0] |= {"outputs": outputs, "provider": provider}
    lab.put(agent, job, envelope(result))
    shown = (ended(lab, job).result or {})["measurements"][0]
    assert shown["verdict"] == verdict
    if verdict == "invalid":
        assert shown["reasons"][0].startswith("parity: ")
        assert shown["summary"] is None and shown["ratio"] is None


def test_a_measurement_without_quiet_blocks_is_busy(lab: Laboratory) -> None:
    agent, job = measuring(lab)
    result = measure_result(job.payload)
    result["measurements"][0]["blocks"]["before_s"] = [2e-4] * 12
    lab.put(agent, job, envelope(result))
    shown = (ended(lab, job).result or {})["measurements"][0]
    assert (shown["verdict"], shown["reasons"]) == ("invalid", ["busy"])
    assert shown["rough_ratio"] == pytest.approx(0.25, rel=0.02) and shown["summary"] is None


def test_a_crashed_candidate_beside_a_valid_one(lab: Laboratory) -> None:
    agent, job = measuring(lab, candidates=2)
    result = measure_result(job.payload)
    result["measurements"][1] = {
        **measured(job.payload["candidates"][1]["sha256"], blocks=0), "verdict": "failed",
        "reasons": ["crashed: signal 11"], "load_s": None, "first_s": None, "outputs": []}
    lab.put(agent, job, envelope(result))
    verdicts = [m["verdict"] for m in (ended(lab, job).result or {})["measurements"]]
    assert verdicts == ["valid", "failed"]


def timed(op: str, time_s: float) -> dict[str, Any]:
    return {"problem": "", "call_s": 1e-3, "idle_call_s": 1e-5, "idle_node_s": 1e-6, "copies": [],
            "nodes": [{"name": op.lower(), "op": op, "provider": "CPUExecutionProvider",
                       "time_s": time_s}]}


def test_compressed_but_not_faster_is_a_warning_with_its_reason(lab: Laboratory) -> None:
    agent, job = measuring(lab)
    candidate = job.payload["candidates"][0]["sha256"]
    for sha256, macs in ((candidate, 10), (job.payload["reference"]["sha256"], 100)):
        builds.put_upload(lab.store.db, sha256, 1, 0.0)
        builds.put_inspection(lab.store.db, sha256, {"accepted": True, "macs": macs})
    result = measure_result(job.payload)
    result["measurements"] = [{**measured(candidate, ratio=1.1), "nodes": timed("Transpose", 1e-3)}]
    result["reference_nodes"] = timed("Conv", 9e-4)
    lab.put(agent, job, envelope(result))
    told = ended(lab, job).result or {}
    shown = told["measurements"][0]
    assert shown["verdict"] == "valid"
    (warning,) = [one for one in shown["summary"]["warnings"] if "compressed" in one]
    assert warning.startswith("compressed but not faster: 90% fewer multiply-accumulates")
    assert "unfused: Transpose take 100% of the nodes' time (reference 0%)" in warning
    assert shown["summary"]["nodes"]["nodes"][0]["op"] == "Transpose"
    assert told["reference_nodes"]["nodes"][0]["op"] == "Conv"
    row = measurements.get(lab.store.db, shown["measurement"])
    assert row is not None and warning in row.warnings()


def test_nodes_of_a_faster_file_are_stored_without_a_warning(lab: Laboratory) -> None:
    agent, job = measuring(lab)
    result = measure_result(job.payload)
    result["measurements"][0]["nodes"] = timed("Conv", 1e-3)
    lab.put(agent, job, envelope(result))
    summary = (ended(lab, job).result or {})["measurements"][0]["summary"]
    assert summary["nodes"]["call_s"] == 1e-3
    assert not any("compressed" in one for one in summary["warnings"])


def test_a_failed_job_has_reason_and_message(lab: Laboratory) -> None:
    builder = lab.builder()
    lab.compress()
    job = lab.leased(builder)
    lab.put(builder, job, envelope(
        {"reason": "nan_loss", "message": "the loss is NaN \ud800"}, "failed"))
    found = ended(lab, job)
    assert (found.state, found.reason) == ("failed", "nan_loss")
    assert (found.message or "").startswith("the loss is NaN")


Change = dict[str, Any]


@pytest.mark.parametrize("change", [
    {"sha256": "../../etc/passwd"}, {"sha256": "0" * 64}, {"file_bytes": 7}, {"file_bytes": -1},
    {"file_bytes": 2**70}, {"build_key": ""}, {"build_key": None}, {"report": []},
    {"probe_outputs": ["x"]}, {"graph_key": 5}, {"built_steps": 1.5},
    {"evaluation": {**evaluation(), "n": 0}}, {"evaluation": {**evaluation(), "n": 9}},
    {"evaluation": {**evaluation(), "scores": "%"}}, {"evaluation": 5},
    {"evaluation": {**evaluation(), "value": "1"}},
])
def test_malformed_builds_fail_their_job(lab: Laboratory, change: Change) -> None:
    builder = lab.builder()
    lab.compress()
    job = lab.leased(builder)
    lab.put(builder, job, envelope({**build_result(lab.artifact(b"model")), **change}))
    found = ended(lab, job)
    assert (found.state, found.reason) == ("failed", "malformed_result")
    assert found.message
    assert list(lab.store.db.query("SELECT key FROM builds")) == []
    assert list(lab.store.db.query("SELECT sha256 FROM artifacts")) == []


def wrong_blocks(**blocks: Any) -> Change:
    entry = measured("SHA")
    return {"measurements": [{**entry, "blocks": {**entry["blocks"], **blocks}}]}


@pytest.mark.parametrize("change", [
    {"measurements": []}, {"quiet_level_s": 0.0}, {"quiet_level_s": None}, {"environment": 3},
    {"quiet_share": "much"}, {"measurements": [measured("0" * 64)]},
    wrong_blocks(candidate_s=[1e-4]), wrong_blocks(before_s=[-1e-4] * 12),
    {"measurements": [{**measured("SHA"), "samples": "AAAA"}]},
    {"measurements": [{**measured("SHA"), "sample_blocks": [2] * 12}]},
    {"measurements": [{**measured("SHA"), "verdict": "splendid"}]},
    {"measurements": [{**measured("SHA"), "nodes": {**timed("Conv", 1e-3), "call_s": -1.0}}]},
    {"measurements": [{**measured("SHA"), "nodes": timed("Conv", -1e-3)}]},
    {"reference_nodes": {**timed("Conv", 1e-3), "copies": [{"size_bytes": 0, "time_s": 1.0}]}},
    {"reference_nodes": {**timed("Conv", 1e-3), "nodes": timed("Conv", 1e-3)["nodes"] * 1001}},
    {"measurements": [{**measured("SHA"), "memory_bytes": 2**70}]},
])
def test_malformed_measurements_fail_their_job(lab: Laboratory, change: Change) -> None:
    agent, job = measuring(lab)
    sha256 = job.payload["candidates"][0]["sha256"]
    text = json.dumps({**measure_result(job.payload), **change}).replace("SHA", sha256)
    lab.put(agent, job, envelope(json.loads(text)))
    found = ended(lab, job)
    assert (found.state, found.reason) == ("failed", "malformed_result")
    assert measurements_of_job(lab.store.db, job.id) == []
    assert not lab.workers.paused


@pytest.mark.parametrize("content", [
    b"", b"\xff", b"{", b"[]", b"null", b'{"state": "done"}', b'{"state": 1, "result": {}}',
    b'{"state": "done", "result": {"x": NaN}}', b"[" * 100_000,
    b'{"state": "failed", "result": {"reason": 5, "message": "x"}}', b"9" * 5000,
])
def test_malformed_bodies_fail_their_job(lab: Laboratory, content: bytes) -> None:
    builder = lab.builder()
    lab.compress()
    job = lab.leased(builder)
    lab.put(builder, job, content)
    assert ended(lab, job).reason == "malformed_result"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.sampled_from(sorted(build_result({"sha256": "0" * 64, "size_bytes": 1}))), json_values)
def test_every_result_of_a_builder_ends_its_job(
        tmp_path_factory: pytest.TempPathFactory, key: str, value: Any) -> None:
    lab = Laboratory.open(tmp_path_factory.mktemp("lab"))
    builder = lab.builder()
    lab.compress()
    job = lab.leased(builder)
    lab.put(builder, job, envelope({**build_result(lab.artifact(b"model")), key: value}))
    assert ended(lab, job).state in ("done", "failed")
    lab.store.close()


def test_gzip_is_decompressed_up_to_a_limit() -> None:
    packed = gzip.compress(b"x" * 1000)
    assert content_of(packed, "gzip", 1000) == b"x" * 1000
    with pytest.raises(ProtocolError) as refused:
        content_of(packed, "gzip", 999)
    assert refused.value.status == 413
    for broken in (b"", b"not gzip", packed[:-9]):
        with pytest.raises(ProtocolError):
            content_of(broken, "gzip", 1000)
    with pytest.raises(ProtocolError) as refused:
        content_of(b"", "br", 1000)
    assert refused.value.status == 415


@given(st.lists(st.integers(1, 2**32 - 1), max_size=50), st.booleans())
def test_unpacking_inverts_the_packing_of_agents(calls: list[int], slow: bool) -> None:
    calls = [*calls, 2**33] if slow else calls
    assert list(unpacked(protocol.pack_samples(calls))) == calls
