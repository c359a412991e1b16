"""Reported facts override the profile; every contradiction is reported."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.schema import names, profile
from searcher.devices.profile_check import Compared, compared, contradictions, warnings
from searcher.ledger.rows import DeviceRow

TX2 = {"board": "quill", "machine": "aarch64", "memory_bytes": 8_235_192_320, "python": "3.6.9"}
ORT = {"runtimes": {"onnxruntime": {"onnxruntime": "1.11.0", "providers": []}}}


def tx2(runtimes: Any = None, **change: Any) -> Compared:
    capabilities = ORT if runtimes is None else {"runtimes": runtimes}
    return compared(profile("jetson_tx2"), {**TX2, **change}, capabilities)


def version(text: str) -> dict[str, Any]:
    return {"onnxruntime": {"onnxruntime": text}}


def test_a_device_as_its_profile_says_contradicts_nothing() -> None:
    found = tx2()
    assert found.contradictions == ()
    assert found.profile.memory_bytes == (TX2["memory_bytes"],)
    assert (found.profile.opset, found.profile.ir_version) == (16, 8)


@pytest.mark.parametrize(("change", "said"), [
    ({"board": "NVIDIA Jetson Nano Developer Kit"}, "it reports the board 'NVIDIA Jetson Nano"),
    ({"machine": "x86_64"}, "it reports a x86_64 processor, the profile says aarch64"),
    ({"memory_bytes": 16 * 2**30}, "it reports 16.0 GiB of memory, the profile says 4 or 8 GiB"),
    ({"memory_bytes": 2**30}, "it reports 1.0 GiB"),
    ({"python": "3.8.10"}, "its agent runs on Python 3.8, the profile says 3.6"),
])
def test_each_contradiction_is_told(change: dict[str, Any], said: str) -> None:
    [told] = tx2(**change).contradictions
    assert told.startswith(said)


@pytest.mark.parametrize(("reported", "limits"), [
    ("1.10.0", (15, 8)), ("1.19.2", (21, 10)), ("1.4.0", (12, 7))])
def test_the_reported_runtime_bounds_the_files(reported: str, limits: tuple[int, int]) -> None:
    found = tx2(version(reported))
    assert (found.profile.opset, found.profile.ir_version) == limits
    assert found.profile.runtime_version == reported
    [told] = found.contradictions
    assert f"ONNX Runtime {reported}" in told and f"opset {limits[0]} and IR {limits[1]}" in told


def test_another_patch_of_the_same_runtime_is_no_contradiction() -> None:
    found = tx2(version("1.11.1"))
    assert found.contradictions == () and found.profile.runtime_version == "1.11.1"


def test_without_the_profiles_runtime() -> None:
    [told] = tx2({"fake": {}}).contradictions
    assert told == "it offers fake, not the profile's runtime onnxruntime"


@pytest.mark.parametrize("text", ["1.3.0", "nightly"])
def test_a_version_that_says_nothing_keeps_the_profiles_limits(text: str) -> None:
    found = tx2(version(text))
    assert (found.profile.opset, found.profile.ir_version) == (16, 8)
    assert "limits are kept" in found.contradictions[0]


def test_a_profile_for_any_runtime_is_bounded_by_an_older_one_only() -> None:
    newer = compared(profile("local_cpu"), {"machine": "x86_64"}, {"runtimes": version("1.32.0")})
    assert (newer.profile.opset, newer.profile.ir_version) == (13, 7)
    assert newer.contradictions == ()
    older = compared(profile("local_cpu"), {}, {"runtimes": version("1.5.0")})
    assert older.profile.opset == 12 and len(older.contradictions) == 1


def test_the_processor_decides_on_the_activations() -> None:
    arm = compared(profile("local_cpu"), {"machine": "aarch64"}, {})
    assert arm.profile.int8_activations == "int8"
    assert "int8 files get int8 activations" in arm.contradictions[0]
    x86 = compared(profile("raspberry_pi_5"), {"machine": "x86_64"}, {})
    assert x86.profile.int8_activations == "uint8"
    assert tx2(machine="x86_64").profile.int8_activations is None


def test_a_reported_runtime_makes_a_tk1_usable() -> None:
    found = compared(profile("jetson_tk1"), {}, {"runtimes": version("1.4.0")})
    assert (found.profile.opset, found.profile.ir_version) == (12, 7)
    assert found.contradictions == ()


def test_of_an_enrolled_device() -> None:
    row = DeviceRow("tx2-1", "jetson_tx2", {**TX2, "board": "Raspberry Pi 5"}, ORT, 0, "active",
                    1.0, None, 0, None)
    [warning] = warnings("tx2-1", row)
    assert warning.startswith("Device 'tx2-1' contradicts its profile 'jetson_tx2': it reports")
    assert contradictions(None, TX2, ORT) == []
    assert "Unknown device profile" in contradictions("jetson_tx9", TX2, ORT)[0]


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
KEYS = st.sampled_from(["board", "machine", "memory_bytes", "python", "runtimes"])


@given(st.sampled_from(names()), st.dictionaries(KEYS, JSON), st.dictionaries(KEYS, JSON))
def test_whatever_an_agent_reports_is_taken(
    name: str, fingerprint: dict[str, Any], capabilities: dict[str, Any]
) -> None:
    assert compared(profile(name), fingerprint, capabilities).profile.name == name
