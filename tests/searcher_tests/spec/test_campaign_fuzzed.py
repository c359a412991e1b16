"""Fuzzed campaign documents give a campaign or a message, and no other exception."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import example, given
from hypothesis import strategies as st

from searcher.errors import UserError
from searcher.ledger.rows import text
from searcher.spec.campaign import Campaign, from_document, load
from tests.searcher_tests.hostile import BRIEF, VALUES, damaged, spoilt
from tests.searcher_tests.spec.test_campaign import FULL, MINIMAL

TOML = tomli_w.dumps(FULL).encode()


def accepted(document: Any) -> bool:
    """Whether the document is a campaign; otherwise UserError must have a short reason."""
    try:
        campaign = from_document(document)
    except UserError as error:
        assert 10 < len(str(error)) < 1_000_000
        return False
    assert from_document(campaign.as_dict()) == campaign
    assert text(campaign.as_dict())
    return True


@BRIEF
@given(spoilt(FULL))
def test_documents_with_something_wrong(document: Any) -> None:
    accepted(document)


@BRIEF
@given(st.dictionaries(st.sampled_from([*FULL, "colour"]) | st.text(max_size=5), VALUES))
def test_documents_of_anything(document: Any) -> None:
    accepted({**MINIMAL, **document})


def loaded(content: bytes) -> Campaign | None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "campaign.toml"
        file.write_bytes(content)
        try:
            return load(file)
        except UserError as error:
            assert str(file) in str(error)
    return None


@BRIEF
@given(damaged(TOML))
@example(TOML)
def test_files_that_were_damaged(content: bytes) -> None:
    loaded(content)


@BRIEF
@given(st.text(alphabet=st.sampled_from('[]{}="\'.,#\n \\0x1e-_abtrue:TZ'), max_size=200))
def test_files_of_anything(content: str) -> None:
    loaded(content.encode())


@pytest.mark.parametrize("value", [
    "1" * 5000, "0x" + "f" * 5000, "[" * 5000, '"' + "x" * 2000 + '"', "nan", "inf", "-inf",
    "1e400", "1979-05-27", "2**3", "[" + "1," * 20_000 + "1]", "{" * 3000, "'\x7f'",
    "[[[[[[[[[[1]]]]]]]]]]", "9223372036854775808", "true"], ids=range(16))
@pytest.mark.parametrize("key", [
    "seed", "name", "task", "budget.wall_minutes", "search.limits.x", "devices", "builders",
    "objectives.latency_s", "constraints.quality_drop", "measurement.plan", "search.strategies"])
def test_no_value_does_harm_anywhere(key: str, value: str) -> None:
    lines = [f'{name} = "x"' for name in ("name", "task") if name != key]
    assert loaded("\n".join([*lines, f"{key} = {value}", ""]).encode()) is None


def test_limits_are_numbers() -> None:
    for pair in ([float("nan"), 1.0], [0.0, float("inf")], [float("-inf"), 1.0]):
        assert not accepted({**MINIMAL, "search": {"limits": {"svd.rank_ratio": pair}}})
    assert accepted({**MINIMAL, "search": {"limits": {"svd.rank_ratio": [0.1, 0.5]}}})


def test_names_become_folders() -> None:
    for name in ("ä", "a²", "a/b", "..", ".a", "a\0", "a" * 81, "-a", "٣"):
        assert not accepted({**MINIMAL, "name": name})
