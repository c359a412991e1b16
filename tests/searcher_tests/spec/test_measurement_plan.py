import json

import pytest

from agents.protocol import ArtifactRef, MeasurePayload
from searcher.errors import UserError
from searcher.jobs.measure import MeasureRequest
from searcher.spec.measurement_plan import PLANS, plan_of


def test_the_numbers_of_a_plan_stay_as_written_because_they_identify_jobs() -> None:
    """A job has the same key before and after a restart, and in every version."""
    plan = plan_of({"max_s": 3, "min_blocks": 12})
    assert json.dumps(plan.max_s) == "3" and json.dumps(PLANS["quick"].max_s) == "1.5"
    file = ArtifactRef("a" * 64, 10)
    payload = MeasureRequest(
        MeasurePayload(file, [file], "onnxruntime", {}, plan, attempt=1)).payload()
    assert '"max_s": 3,' in json.dumps(payload["plan"])


@pytest.mark.parametrize(("key", "value"), [
    ("max_s", True), ("max_s", "3"), ("min_blocks", 12.5), ("memory", 1), ("max_s", -1),
    ("max_s", float("inf")), ("max_s", float("nan")), ("name", 3), ("gate", None),
])
def test_a_value_of_another_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(UserError, match=key):
        plan_of({key: value})
