"""A data set through a child: the file that holds it, and what may be wrong with either."""

import io
import os
import struct
import time
import zipfile

import pytest

from agents.agent import Agent
from agents.coordinator.http import Backoff
from agents.coordinator.settings import AgentSettings
from agents.jobs.catalog import KINDS
from agents.jobs.infer import SILENCE_S, infer
from agents.measurement.child_process import ProcessChild
from agents.measurement.supervision import JobCancelled, JobFailed
from agents.platform.sysfs import SystemTree
from agents.protocol import (
    DEVICE_KINDS,
    ArtifactRef,
    InferPayload,
    InferResult,
    decode,
    unpack_bytes,
)
from agents.timing.dataset import ONLY, Dataset, DatasetError
from tests.agents_tests.fakes import fake_model, ref_of, written

MODEL = fake_model(outputs=[0.5, -2.0])


def npy(shape=(3, 2), values=None, kind="<f4", turned=False, version=1):
    """As ``numpy.save`` writes it."""
    header = repr({"descr": kind, "fortran_order": turned, "shape": tuple(shape)}).encode()
    count = 1
    for size in shape:
        count *= size
    values = [float(i) for i in range(count)] if values is None else values
    length = struct.pack("<H" if version == 1 else "<I", len(header) + 1)
    return (b"\x93NUMPY" + bytes([version, 0]) + length + header + b"\n"
            + struct.pack("<{}f".format(len(values)), *values))


def npz(arrays):
    """As ``numpy.savez`` writes it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(name + ".npy", array)
    return content.getvalue()


def opened(tmp_path, content):
    path = tmp_path / "data.npy"
    path.write_bytes(content)
    return Dataset(str(path))


@pytest.mark.parametrize("version", [1, 2])
def test_samples_come_in_batches_and_the_last_is_short(tmp_path, version):
    samples = opened(tmp_path, npy((5, 1, 2), version=version))
    assert samples.samples == 5
    for _ in range(2):
        found = list(samples.batches(2))
        assert [count for _, count in found] == [2, 2, 1]
        assert all(feeds[ONLY].shape == [count, 1, 2] for feeds, count in found)
        content = b"".join(feeds[ONLY].content for feeds, _ in found)
        assert struct.unpack("<10f", content) == tuple(range(10))
    samples.close()


def test_an_array_for_each_input(tmp_path):
    samples = opened(tmp_path, npz({"image": npy((5, 2)), "tokens": npy(
        (5, 1), [1.0] * 5), "label.kind": npy((5,), [2.0] * 5)}))
    assert samples.samples == 5 and list(samples.columns) == ["image", "tokens", "label.kind"]
    for _ in range(2):
        found = list(samples.batches(3))
        assert [{name: values.shape for name, values in feeds.items()} for feeds, _ in found] == [
            {"image": [3, 2], "tokens": [3, 1], "label.kind": [3]},
            {"image": [2, 2], "tokens": [2, 1], "label.kind": [2]}]
        content = b"".join(feeds["image"].content for feeds, _ in found)
        assert struct.unpack("<10f", content) == tuple(range(10))
    samples.close()


def damaged():
    """A bit of the first array's numbers is another; its checksum is the old one."""
    whole = bytearray(npz({"image": npy((5, 2))}))
    whole[whole.index(struct.pack("<2f", 3.0, 4.0))] ^= 1
    return bytes(whole)


@pytest.mark.parametrize("content, what", [
    (npz({}), "not a .npy"), (npz({"a": npy(), "b": npy((2, 2))}), "'a' has 3, 'b' has 2"),
    (npz({"a": b"text"}), "The array 'a' of the data set is not a .npy"),
    (npz({"a": npy() + b"x"}), "The array 'a'.*must have"), (npz({"a": npy()})[:-9], "be read"),
    (npz({str(i): npy() for i in range(65)}), "65 arrays"), (damaged(), "CRC"),
], ids=range(7))
def test_a_file_of_arrays_that_is_no_data_set_is_refused(tmp_path, content, what):
    with pytest.raises(DatasetError, match=what):
        list(opened(tmp_path, content).batches(100))


@pytest.mark.parametrize("content, what", [
    (b"", "not a .npy"), (b"PK\x03\x04" * 30, "cannot be read"), (npy()[:9], "header"),
    (npy()[:20], "header"),
    (npy(kind=">f4"), "little-endian.*'>f4'"), (npy(kind="|O"), "numbers"),
    (npy(turned=True), "Fortran"), (npy(()), "shape"), (npy((0, 2)), "shape"),
    (npy((3, 2), [1.0]), "must have"), (npy() + b"x", "must have"),
    (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"(" * 1000, "header"),
    (b"\x93NUMPY\x01\x00\xe8\x03" + b"(" * 1000, "header"),
], ids=range(13))
def test_a_file_that_is_no_data_set_is_refused(tmp_path, content, what):
    with pytest.raises(DatasetError, match=what):
        opened(tmp_path, content)


def asked(tmp_path, model, data=None, start_child=ProcessChild, clock=time.monotonic,
          cancelled=lambda: False, options=None):
    data = npy() if data is None else data
    paths = written(tmp_path, [model, data])
    payload = InferPayload(ArtifactRef(**ref_of(model)), ArtifactRef(**ref_of(data)), "fake",
                           options or {})
    shares = []
    result = infer(payload, paths, start_child, clock, cancelled, shares.append)
    return result, shares


def test_outputs_of_every_sample_and_the_progress(tmp_path):
    result, shares = asked(tmp_path, MODEL, npy((250, 2)))
    assert result.shape == [250, 2] and result.provider == "FakeExecutionProvider"
    assert unpack_bytes(result.outputs, 2000) == struct.pack("<2f", 0.5, -2.0) * 250
    assert shares == pytest.approx([0.0, 0.4, 0.8])
    assert result.environment["runtime"]["fake"] == "1"


@pytest.mark.parametrize("model, data, reason, text", [
    (b"", None, "unloadable", "empty"),
    (MODEL, b"nonsense", "refused", "not a .npy"),
    (fake_model(outputs=[float("nan")]), None, "refused", "not finite"),
    (fake_model(crash={"at": "open", "how": "segv"}), None, "crashed", "signal 11"),
    (fake_model(crash={"at": 3, "how": "exit"}, outputs=[1.0]), None, "crashed", "exit code 3"),
], ids=["empty", "no data set", "not finite", "crash when opened", "crash at a batch"])
def test_every_failure_has_a_reason(tmp_path, model, data, reason, text):
    with pytest.raises(JobFailed) as caught:
        asked(tmp_path, model, data)
    assert caught.value.reason == reason and text in str(caught.value)


def test_more_outputs_than_are_sent_are_refused(tmp_path):
    with pytest.raises(JobFailed, match="at most 16777216 are sent"):
        asked(tmp_path, fake_model(outputs=[0.0] * 30000), npy((200, 1)))


def test_another_provider_than_the_requested_one_fails(tmp_path):
    with pytest.raises(JobFailed) as caught:
        asked(tmp_path, MODEL, options={"providers": ["CUDAExecutionProvider"]})
    assert caught.value.reason == "provider_fallback"
    assert "CUDAExecutionProvider was asked for" in str(caught.value)


def test_a_hang_is_a_result(tmp_path):
    began, looks = [], []

    def clock():
        """Leaps with every look, once the child is at the model."""
        if began and began[0].progress().session == 0:
            looks.append(1)
        return 10 * SILENCE_S * len(looks)

    def start(runtime, request):
        began.append(ProcessChild(runtime, request))
        return began[0]

    with pytest.raises(JobFailed) as caught:
        asked(tmp_path, fake_model(hang={"at": "open"}), start_child=start, clock=clock)
    assert caught.value.reason == "timeout"
    assert began[0].has_ended()


def test_it_can_be_cancelled(tmp_path):
    with pytest.raises(JobCancelled):
        asked(tmp_path, MODEL, cancelled=lambda: True)


def test_every_kind_of_the_protocol_is_executed():
    assert tuple(KINDS) == DEVICE_KINDS


def test_an_agent_downloads_the_data_set_like_a_model(coordinator, tmp_path):
    data = npy((3, 2))
    payload = {"model": ref_of(MODEL), "inputs": ref_of(data), "runtime": "fake", "options": {}}
    coordinator.add([MODEL, data], payload=payload)
    coordinator.leases[0]["kind"] = "infer"
    coordinator.cut_after = 10
    settings = AgentSettings(coordinator.url, "desk", str(tmp_path), "token-1", once=True,
                        runtimes=("fake",))
    Agent(settings, lambda: {}, ProcessChild, SystemTree(str(tmp_path)), time.monotonic,
          lambda delay_s: None, Backoff(0.001, 0.01)).run()
    (envelope,) = coordinator.results.values()
    assert envelope["state"] == "done"
    result = decode(InferResult, envelope["result"])
    assert result.shape == [3, 2] and len(result.environment["key"]) == 64
    assert sum(ref_of(MODEL)["sha256"] in path for path in coordinator.paths()) == 2, "resumed"
    assert sorted(os.listdir(str(tmp_path / "artifacts"))) == sorted(
        [ref_of(MODEL)["sha256"], ref_of(data)["sha256"]])
