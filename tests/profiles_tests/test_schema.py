"""Profiles: one device, one TOML; limits of ONNX Runtime by version."""

import dataclasses
import json
import tomllib
from typing import Any

import pytest

from profiles.schema import (
    FOLDER,
    DeviceProfile,
    ProfileError,
    names,
    parse,
    profile,
    runtime_limits,
)

FACTS = {field.name for field in dataclasses.fields(DeviceProfile)} - {
    "name", "description", "runtime", "sources"}


@pytest.mark.parametrize("name", names())
def test_every_fact_has_a_source(name: str) -> None:
    found = profile(name)
    assert found.name == name and found.description
    known = {fact for fact in FACTS if getattr(found, fact) not in (None, ())}
    assert known == set(found.sources)
    assert all(len(source) > 5 for source in found.sources.values())


@pytest.mark.parametrize("name", names())
def test_opset_and_ir_are_those_of_the_runtime(name: str) -> None:
    found = profile(name)
    if found.runtime_version is not None:
        assert (found.opset, found.ir_version) == runtime_limits(found.runtime_version)
    assert (found.runtime_version is None) == (found.opset in (None, 13))


@pytest.mark.parametrize("name", names())
def test_what_is_known_is_plain_json(name: str) -> None:
    told = profile(name).as_dict()
    assert json.loads(json.dumps(told)) == told and told["name"] == name


@pytest.mark.parametrize("name", [name for name in names() if profile(name).rails])
def test_no_rail_is_both_summed_and_inside_the_sum(name: str) -> None:
    rails = profile(name).rails
    assert rails is not None and rails.total and rails.covers
    told = [*rails.total, *rails.parts, *rails.others]
    assert len(told) == len(set(told))


@pytest.mark.parametrize("name", [name for name in names() if profile(name).power_modes])
def test_clocks_are_in_khz(name: str) -> None:
    for mode in profile(name).power_modes:
        for khz in [*(mode.cpu_khz or {}).values(), mode.gpu_khz, mode.emc_khz]:
            assert khz is None or 300_000 <= khz <= 6_000_000


def test_the_required_devices() -> None:
    boards = ("tk1", "tx1", "tx2", "nano", "xavier_nx", "agx_xavier", "orin_nano", "orin_nx",
              "agx_orin", "thor")
    assert {*(f"jetson_{board}" for board in boards), "raspberry_pi_4", "raspberry_pi_5",
            "phone_adb", "phone_page", "desktop_gpu", "desktop_cpu", "local_cpu"} == set(names())


@pytest.mark.parametrize("name", ["jetson_tk1", "jetson_tx1", "jetson_nano", "jetson_tx2"])
def test_old_jetsons_have_no_int8(name: str) -> None:
    assert "int8" not in profile(name).number_formats
    assert profile(name).int8_activations is None


def test_the_tx2() -> None:
    tx2 = profile("jetson_tx2")
    assert (tx2.opset, tx2.ir_version, tx2.compute_capability) == (16, 8, "6.2")
    told = tx2.as_dict()
    assert told["rails"]["total"] == ["VDD_IN"] and "VDD_MUX" in told["rails"]["others"]
    assert told["ignored_zones"] == ["PMIC-Die"]
    assert told["power_modes"][1] == {"id": 1, "name": "MAXQ", "cores": 4, "emc_khz": 1331000,
                                      "cpu_khz": {"cortex_a57": 1200000}, "gpu_khz": 850000}


def test_unconfirmed_facts_are_listed() -> None:
    assert "rails" in profile("jetson_agx_orin").unverified
    assert "rails" not in profile("jetson_tx2").unverified


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="jetson_tx9.*local_cpu"):
        profile("jetson_tx9")


def wrong(name: str, /, **change: Any) -> str:
    document = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    sources = {**document["sources"], **{key: "a test" for key in change if key in FACTS}}
    with pytest.raises(ProfileError, match=f"profiles/{name}.toml") as caught:
        parse(name, {**document, "sources": sources, **change})
    return str(caught.value)


@pytest.mark.parametrize(("change", "said"), [
    ({"colour": "red"}, "unknown keys: colour"),
    ({"number_formats": ["int3"]}, "number_formats must be among float16, float32, int8"),
    ({"name": "other"}, "name = 'other' must be 'jetson_tx2'"),
    ({"sources": {}}, "every fact needs a source"),
    ({"int8_activations": "int8"}, "int8_activations = 'int8'"),
    ({"number_formats": ["float32", "int8"]}, "int8_activations = None"),
    ({"opset": 17}, "ONNX Runtime 1.11.0 loads 16, 8"),
    ({"runtime_version": "1.10.0"}, "ONNX Runtime 1.10.0 loads 15, 8"),
    ({"rails": {"total": ["A"]}}, r"covers"),
    ({"power_modes": [{"name": "A", "volts": 3}]}, r"volts"),
])
def test_an_invalid_profile_is_refused_with_the_reason(change: dict[str, Any], said: str) -> None:
    assert said in wrong("jetson_tx2", **change)


def test_opset_and_ir_are_known_together() -> None:
    assert "together" in wrong("jetson_tk1", opset=13)


@pytest.mark.parametrize(("version", "limits"), [
    ("1.4.0", (12, 7)), ("1.7.0", (13, 7)), ("1.8.1", (14, 7)), ("1.10.0", (15, 8)),
    ("1.11.0", (16, 8)), ("1.13.1", (17, 8)), ("1.14.1", (18, 8)), ("1.15.1", (18, 9)),
    ("1.16.3", (19, 9)), ("1.17.0", (20, 9)), ("1.19.2", (21, 10)), ("1.22.1", (22, 10)),
    ("1.23.2", (23, 11)), ("1.24.1", (25, 13)), ("1.31.0", (26, 13)), ("1.32.0", (28, 14)),
    ("2.0", (28, 14))])
def test_runtime_limits_are_those_of_the_newest_version_not_above(
        version: str, limits: tuple[int, int]) -> None:
    assert runtime_limits(version) == limits


@pytest.mark.parametrize("version", ["1.3.0", "0.9", "one.two", "", "1", "1.x"])
def test_a_version_that_says_nothing_is_refused(version: str) -> None:
    with pytest.raises(ProfileError, match="ONNX Runtime"):
        runtime_limits(version)
