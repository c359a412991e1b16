import pytest

from searcher import errors
from searcher.errors import (
    BuildError,
    DeviceError,
    FleetfrontError,
    LedgerError,
    ProtocolError,
    UserError,
    nearest,
)


@pytest.mark.parametrize("kind", [UserError, BuildError, DeviceError, ProtocolError, LedgerError])
def test_one_tree_drawn_in_the_docstring(kind: type[Exception]) -> None:
    assert issubclass(kind, FleetfrontError)
    assert kind.__name__ in (errors.__doc__ or "")


def test_errors_carry_what_others_act_on() -> None:
    assert BuildError("it broke").reason == "build"
    assert BuildError("it broke", "nan_loss").reason == "nan_loss"
    assert ProtocolError("malformed").status == 400
    assert ProtocolError("stale", 409).status == 409
    assert str(ProtocolError("stale", 409)) == "stale"


@pytest.mark.parametrize(("word", "known", "answer"), [
    ("latency", ["latency_s", "accuracy"], "Did you mean 'latency_s'?"),
    ("xyz", ["b", "a"], "Known: a, b."),
    ("xyz", [], "Known: none."),
])
def test_nearest(word: str, known: list[str], answer: str) -> None:
    assert nearest(word, known) == answer
