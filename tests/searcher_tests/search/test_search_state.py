"""Search states are equal after a round trip through the JSON of the ledger."""

import json

import pytest

from searcher.documents import parse, plain
from searcher.ledger.tables.search_state import (
    BaselineState,
    DeviceQuality,
    FileRef,
    JointEntry,
    SearchState,
    TrainedState,
)

ON_DEVICE = DeviceQuality(
    "tx2/trtexec/TensorrtExecutionProvider", "it computes in float16",
    {"validation": FileRef("1" * 64, 100), "test": FileRef("2" * 64, 50)},
    {"accuracy": 0.98}, {"accuracy": [0.97, 0.99]})
BASELINE = BaselineState(
    "b" * 64, 1000, 1e-3, {"accuracy": 0.99, "macs": 1000.0}, {"accuracy": [0.98, 1.0]}, 7,
    ON_DEVICE)
MEASURED = JointEntry(
    "4" * 64, {"latency_s": 5e-4}, {"latency_s": [4e-4, 6e-4]}, {"quality_drop": -0.01}, 8)
STATE = SearchState(
    BASELINE, 12.5, 300.0, {4: MEASURED, 10: JointEntry("a" * 64, reason="busy")},
    ("int8 is left out",), (4, 10),
    {11: TrainedState({"accuracy": 0.98}, {"accuracy": [0.97, 0.99]}, 0.25, 9),
     12: TrainedState({}, {}, 0.03)})


def stored(state: SearchState) -> str:
    return json.dumps(plain(state), allow_nan=False)


@pytest.mark.parametrize("state", [
    STATE, SearchState(BaselineState("b" * 64, 1000, 1e-3, {}, {}))])
def test_round_trip_of_a_state(state: SearchState) -> None:
    found = parse(SearchState, json.loads(stored(state)))
    assert found == state and stored(found) == stored(state)


def test_joint_figures_are_found_by_the_trials_id() -> None:
    document = json.loads(stored(STATE))
    assert list(document["joint"]) == ["4", "10"], "JSON has no other keys than text"
    joint = parse(SearchState, document).joint
    assert joint[4] == MEASURED and joint[10].values is None and joint[10].reason == "busy"


def test_unknown_fields_are_ignored() -> None:
    document = json.loads(stored(STATE))
    document["baseline"]["colour"] = document["joint"]["4"]["colour"] = "red"
    assert parse(SearchState, document) == STATE


def test_an_invalid_state_names_the_field() -> None:
    document = json.loads(stored(STATE))
    document["joint"]["x"] = document["joint"].pop("10")
    with pytest.raises(ValueError, match=r"joint\.x"):
        parse(SearchState, document)
