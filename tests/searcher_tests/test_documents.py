import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from searcher.documents import parse, parse_text, plain


@dataclass(frozen=True)
class Part:
    name: str
    value: int | float = 0


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    by_number: Mapping[int, Part]
    note: str | None = None


WHOLE = Whole((Part("a", 3), Part("b", 0.5)), {7: Part("c")})


def test_a_document_comes_back_from_objects_and_from_text() -> None:
    assert parse(Whole, plain(WHOLE)) == WHOLE
    assert parse_text(Whole, json.dumps(plain(WHOLE)).encode()) == WHOLE
    assert json.dumps(plain(WHOLE)["parts"]) == (
        '[{"name": "a", "value": 3}, {"name": "b", "value": 0.5}]'), "3 does not become 3.0"


def test_fields_of_a_newer_program_are_ignored() -> None:
    assert parse(Part, {"name": "a", "colour": "red"}) == Part("a")


@pytest.mark.parametrize(("document", "said"), [
    ({"parts": [{"name": 3}], "by_number": {}}, r"^parts\.0\.name: "),
    ({"parts": []}, "^by_number: Field required"),
    ([], "^Whole: "),
])
def test_an_error_names_the_field(document: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(Whole, document)
    with pytest.raises(ValueError, match=said):
        parse_text(Whole, json.dumps(document).encode())


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="^Part: Invalid JSON"):
        parse_text(Part, b"{")
