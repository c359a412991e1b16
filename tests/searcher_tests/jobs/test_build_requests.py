"""What requests for builds say: repair, epochs, and the kind of job."""

from typing import Any

import pytest

from searcher.errors import ProtocolError
from searcher.jobs.build import BuildRequest
from searcher.jobs.registry import named
from searcher.spec.recipe import Recipe, Step

RECIPE = Recipe((Step.of("clustering", "model", {"bits": {"conv": 4, "fc": 2}}),))


def request(**fields: Any) -> BuildRequest:
    return BuildRequest("tiny", RECIPE, 0, **fields)


@pytest.mark.parametrize(("fields", "kind", "fidelity", "repair"), [
    ({}, "compress", "untrained", False),
    ({"repair": True}, "compress", "repaired", True),
    ({"fidelity": "repaired"}, "compress", "repaired", True),
    ({"fidelity": "short"}, "train", "short", False),
    ({"fidelity": "full", "repair": True, "epochs": {"short": 1, "full": 9}}, "train", "full",
     True),
], ids=str)
def test_a_request_survives_its_payload(fields: dict[str, Any], kind: str, fidelity: str,
                                        repair: bool) -> None:
    asked = request(**fields)
    assert (asked.kind, asked.fidelity, asked.repair) == (kind, fidelity, repair)
    assert named(kind).parse(asked.payload()) == asked


def test_both_ways_to_ask_for_repair_are_one_job() -> None:
    assert request(repair=True).payload() == request(fidelity="repaired").payload()


def test_plain_requests_say_nothing_of_repair_and_epochs() -> None:
    assert set(request(fidelity="short").payload()) == {
        "task", "recipe", "seed", "target", "fidelity"}


@pytest.mark.parametrize(("wrong", "said"), [
    ({"repair": 1}, "repair = 1 must be true or false"),
    ({"epochs": {"shrt": 1}}, "unknown key 'shrt'.*'short'"),
    ({"epochs": {"short": 0}}, "epochs.short"),
    ({"epochs": {"short": 4, "full": 3}}, "none may be below the one before"),
], ids=str)
def test_nonsense_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        named("train").parse({**request(fidelity="full").payload(), **wrong})
