"""Cases in which the host's accuracy is, or is not, valid for the device."""

import dataclasses

import pytest

from profiles.schema import names, profile
from searcher.spec.runtime_options import DEFAULT, Execution
from searcher.statistics.numerics import why_they_differ


@pytest.mark.parametrize(("name", "shares_host", "host", "why"), [
    ("local_cpu", True, "x86_64", None),
    ("desktop_cpu", True, "AMD64", None),
    ("desktop_cpu", False, "x86_64", "another machine"),
    ("desktop_cpu", False, "arm64", "its processor is x86_64, the host's is aarch64"),
    ("raspberry_pi_4", False, "x86_64", "its processor is aarch64"),
    ("raspberry_pi_4", True, "aarch64", None),
    ("raspberry_pi_4", False, "arm64", "int8 results depend on the processor"),
    ("jetson_tx2", False, "x86_64", "float16"),
    ("desktop_gpu", True, "x86_64", "float16"),
    ("phone_page", False, "x86_64", "onnxruntime-web"),
])
def test_the_rule(name: str, shares_host: bool, host: str, why: str | None) -> None:
    found = why_they_differ(profile(name), DEFAULT, shares_host, host)
    assert found is None if why is None else why in (found or "")


def test_float32_on_the_same_kind_of_processor_is_the_hosts() -> None:
    only = dataclasses.replace(profile("desktop_cpu"), number_formats=frozenset({"float32"}))
    assert why_they_differ(only, DEFAULT, False, "x86_64") is None


def test_every_jetson_answers_itself() -> None:
    for name in names():
        if name.startswith("jetson"):
            assert why_they_differ(profile(name), DEFAULT, False, "x86_64") is not None


@pytest.mark.parametrize(("execution", "why"), [
    (Execution(threads=4), None),
    (Execution(provider="CUDAExecutionProvider"),
     "it runs files with CUDAExecutionProvider, the host with CPUExecutionProvider"),
    (Execution("trtexec", "TensorrtExecutionProvider"),
     "it runs files with trtexec, the host with onnxruntime"),
    (Execution(graph_level="disable"), "it runs graphs of level disable, the host of level all"),
])
def test_how_a_campaign_runs_files_counts_on_the_hosts_own_machine(
    execution: Execution, why: str | None
) -> None:
    assert why_they_differ(profile("local_cpu"), execution, True, "x86_64") == why
