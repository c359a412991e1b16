"""Profiles: one device, one TOML; limits of ONNX Runtime by version."""

import tomllib

import pytest

from profiles.schema import FOLDER, ProfileError, names, parse, profile, runtime_limits


@pytest.mark.parametrize("name", names())
def test_every_profile_is_read_and_says_where_its_facts_come_from(name: str) -> None:
    found = profile(name)
    assert found.name == name and found.sources
    assert found.opset <= 16 and found.ir_version <= 8 or found.runtime != "onnxruntime"


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="jetson_tx9.*local_cpu"):
        profile("jetson_tx9")


@pytest.mark.parametrize("change", [
    {"colour": "red"}, {"number_formats": ["int3"]}, {"name": "other"}])
def test_a_wrong_profile_names_its_file(change: dict[str, object]) -> None:
    document = tomllib.loads((FOLDER / "local_cpu.toml").read_text())
    with pytest.raises(ProfileError, match="profiles/local_cpu.toml"):
        parse("local_cpu", {**document, **change})


@pytest.mark.parametrize(("version", "limits"), [
    ("1.11.0", (16, 8)), ("1.10.0", (15, 8)), ("1.32.0", (28, 14)), ("1.13.1", (17, 8))])
def test_runtime_limits_are_those_of_the_newest_version_not_above(
        version: str, limits: tuple[int, int]) -> None:
    assert runtime_limits(version) == limits


def test_a_runtime_older_than_the_table_is_refused() -> None:
    with pytest.raises(ProfileError, match="1.3.0"):
        runtime_limits("1.3.0")
