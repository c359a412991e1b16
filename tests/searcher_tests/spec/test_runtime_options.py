"""Runtime options of a campaign's device: valid options, and those that a device offers."""

from dataclasses import replace
from typing import Any

import pytest

from searcher.dispatch.admission import check_meters
from searcher.errors import UserError
from searcher.ledger.tables.search_state import FileRef
from searcher.search.payloads import Requests
from searcher.spec.campaign import Campaign, from_document
from searcher.spec.runtime_options import DEFAULT, Execution, check_offered, in_words
from strategies.target import Target
from tests.searcher_tests.dispatch.laboratory import SPEC
from tests.searcher_tests.dispatch.test_admission import DAEMON, device

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
WIRE_OF_OLD = {"threads": 1, "graph_level": "all", "batch": 1}
"""The options of campaigns before they could be chosen: equal requests are the same job."""


def of(**keys: Any) -> Campaign:
    return from_document({**SPEC, "devices": [{"profile": "local_cpu", **keys}]})


@pytest.mark.parametrize(("keys", "runtime", "options", "said"), [
    ({}, "onnxruntime", WIRE_OF_OLD, "onnxruntime, CPUExecutionProvider, 1 thread"),
    ({"threads": 2, "graph_level": "basic"}, "onnxruntime",
     {"threads": 2, "graph_level": "basic", "batch": 1},
     "onnxruntime, CPUExecutionProvider, 2 threads, graph level basic"),
    ({"provider": CUDA}, "onnxruntime", {**WIRE_OF_OLD, "providers": [CUDA]},
     f"onnxruntime, {CUDA}, 1 thread"),
    ({"runtime": "trtexec"}, "trtexec", {"batch": 1}, f"trtexec, {TENSORRT}"),
    ({"runtime": "trtexec", "precision": "float16"}, "trtexec",
     {"batch": 1, "precision": "float16"}, f"trtexec, {TENSORRT}, float16"),
    ({"runtime": "fake"}, "fake", {"batch": 1}, "fake, FakeExecutionProvider"),
])
def test_what_jobs_carry(
    keys: dict[str, Any], runtime: str, options: dict[str, Any], said: str
) -> None:
    campaign = of(**keys)
    requests = Requests(campaign, Target(), campaign.executions[0])
    file = FileRef("0" * 64, 9)
    measure = requests.measure(file, [file], campaign.plan, 1).payload()
    assert (measure["runtime"], measure["options"]) == (runtime, options)
    infer = requests.infer(file, file, 1).payload()
    batch = 100 if runtime == "trtexec" else 1
    assert (infer["runtime"], infer["options"]) == (runtime, {**options, "batch": batch})
    assert str(campaign.executions[0]) == said
    assert from_document(campaign.as_dict()) == campaign
    assert campaign.as_dict()["devices"] == [{"profile": "local_cpu", **keys}]


def test_the_default_is_no_other_campaign() -> None:
    said = of(runtime="onnxruntime", provider="CPUExecutionProvider", threads=1, graph_level="all")
    assert said == of() and said.as_dict() == of().as_dict()
    assert of().as_dict()["devices"] == SPEC["devices"]
    assert of(threads=2) != of()
    assert of(runtime="trtexec", provider=TENSORRT) == of(runtime="trtexec")


@pytest.mark.parametrize(("keys", "said"), [
    ({"runtme": "trtexec"}, "Unknown key 'runtme' in [[devices]]. Did you mean 'runtime'?"),
    ({"runtime": "trtexe"}, "runtime = 'trtexe' in [[devices]] is unknown. Did you mean 'trtexec'"),
    ({"runtime": ["fake"]}, "runtime = ['fake'] in [[devices]] is unknown"),
    ({"provider": "CUDAExecutionProvder"}, f"Did you mean '{CUDA}'?"),
    ({"provider": "cuda"}, f"Known: CPUExecutionProvider, {CUDA}, {TENSORRT}"),
    ({"runtime": "trtexec", "provider": CUDA}, f"provider = '{CUDA}' in [[devices]] is unknown"),
    ({"threads": 0}, "threads = 0 in [[devices]] must be a whole number from 1 to 256"),
    ({"threads": True}, "threads = True"),
    ({"threads": 1.5}, "threads = 1.5"),
    ({"graph_level": "al"}, "graph_level = 'al' in [[devices]] is unknown."),
    ({"precision": "float16"}, "the runtime 'onnxruntime' does not use it. Use: provider, thre"),
    ({"runtime": "trtexec", "threads": 2}, "'trtexec' does not use it. Use: provider, precision"),
    ({"runtime": "trtexec", "precision": "int8"}, "precision = 'int8' in [[devices]] is unknown"),
])
def test_what_there_is_not_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        of(**keys)
    assert said in str(refused.value)


# -- what a device offers --------------------------------------------------------------------

TOLD: dict[str, Any] = {
    "runtimes": {"onnxruntime": {"onnxruntime": "1.23.2", "providers": ["CPUExecutionProvider"],
                                 "unproven": {CUDA: "refused: libcudart.so.12 is not there"}}},
    "missing": {"trtexec": "There is no trtexec in PATH"}}


@pytest.mark.parametrize(("keys", "told", "said"), [
    ({"provider": CUDA}, TOLD, f"has not run an inference with {CUDA} (refused: libcudart.so.12 "
                               "is not there). It offers: onnxruntime (CPUExecutionProvider)."),
    ({"provider": TENSORRT}, TOLD, f"an inference with {TENSORRT}. It offers"),
    ({"runtime": "trtexec"}, TOLD, "does not offer the runtime 'trtexec' (There is no trtexec in "),
    ({"runtime": "trtexec"}, {}, "It offers: nothing (its agent reported no runtime)."),
    ({"threads": 2}, {}, "It offers: nothing (its agent reported no runtime)."),
    ({}, {"runtimes": {"trtexec": {"providers": [TENSORRT]}}}, f"It offers: trtexec ({TENSORRT})."),
])
def test_what_a_device_does_not_offer_is_refused_at_submission(
    keys: dict[str, Any], told: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match="Device 'local_cpu'") as refused:
        DAEMON.check_campaign(of(**keys), [replace(device("local_cpu"), capabilities=told)])
    assert said in str(refused.value)


@pytest.mark.parametrize(("execution", "told"), [
    (DEFAULT, {}), (DEFAULT, TOLD), (Execution(threads=2, graph_level="basic"), TOLD),
    (Execution(provider=CUDA), {"runtimes": {"onnxruntime": {"providers": [CUDA]}}}),
    (Execution("trtexec", TENSORRT), {"runtimes": {"trtexec": {"providers": [TENSORRT]}}}),
])
def test_what_it_offers_is_let_in(execution: Execution, told: dict[str, Any]) -> None:
    check_offered(execution, "desk", told)


@pytest.mark.parametrize("told", [
    {"runtimes": 3}, {"runtimes": {"onnxruntime": None}}, {"runtimes": {}, "missing": "all"},
    {"runtimes": {"onnxruntime": {"providers": 3, "unproven": 3}}}])
def test_what_cannot_be_read_offers_nothing(told: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="It offers"):
        check_offered(Execution(provider=CUDA), "desk", told)


def test_files_that_an_engine_of_one_precision_cannot_run_are_not_searched() -> None:
    formats = frozenset({"float32", "int8"})
    assert Execution("trtexec", TENSORRT).formats(formats) == {"float32"}
    assert Execution(provider=CUDA).formats(formats) == formats


def test_old_measurements_are_told_as_far_as_they_tell_themselves() -> None:
    assert in_words("onnxruntime", "CPUExecutionProvider", {}) == (
        "onnxruntime, CPUExecutionProvider")


def test_the_meter_must_be_of_what_computes() -> None:
    energy = {"objectives": {"accuracy": "maximize", "energy_j": "minimize"},
              "measurement": {"plan": {"energy_s": 20.0, "idle_s": 5.0}}}

    def asking(**keys: Any) -> Campaign:
        return from_document({**SPEC, **energy, "devices": [{"profile": "local_cpu", **keys}]})

    gpu = replace(device("local_cpu"), capabilities={"energy": {"cpu": "no rapl", "gpu": "ok"}})
    check_meters(asking(provider=CUDA), gpu)
    with pytest.raises(UserError, match="no rapl"):
        check_meters(asking(), gpu)
    with pytest.raises(UserError, match="runtime 'trtexec': it computes in another process"):
        check_meters(asking(runtime="trtexec"), gpu)
