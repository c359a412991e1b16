"""Campaigns that a daemon accepts, and the errors of the others."""

from typing import Any

import pytest

from searcher.dispatch.admission import Admission
from searcher.errors import UserError
from searcher.ledger.rows import DeviceRow
from searcher.spec.campaign import from_document
from tests.searcher_tests.dispatch.laboratory import SPEC

DAEMON = Admission(frozenset({"lab.tasks:stripes"}), enrolled_only=True)


def device(name: str, profile: str | None = "local_cpu", state: str = "active") -> DeviceRow:
    return DeviceRow(name, profile, {}, {}, 0, state, 1.0, None, 0, None)


ENROLLED = [device("local_cpu"), device("tx2-1"), device("odd", None), device("gone", "local_cpu",
                                                                              "removed")]


def refusal(**changes: Any) -> str:
    with pytest.raises(UserError) as refused:
        DAEMON.check_campaign(from_document({**SPEC, **changes}), ENROLLED)
    return str(refused.value)


@pytest.mark.parametrize("task", ["lenet5-mnist", "lab.tasks:stripes"])
@pytest.mark.parametrize("devices", [[{"profile": "local_cpu"}], [{"name": "tx2-1"}]])
def test_allowed_tasks_and_devices_are_accepted(task: str, devices: list[dict[str, str]]) -> None:
    DAEMON.check_campaign(from_document({**SPEC, "task": task, "devices": devices}), ENROLLED)


@pytest.mark.parametrize("task", ["os:abort", "lab.tasks:other", "lenet5", "lab.tasks"])
def test_other_tasks_are_refused_with_a_list_of_the_allowed(task: str) -> None:
    said = refusal(task=task)
    assert repr(task) in said and "lab.tasks:stripes" in said and "lenet5-mnist" in said
    assert "fleetfront serve --tasks" in said


@pytest.mark.parametrize(("devices", "said"), [
    ([{"name": "tx2-2"}], 'name = "tx2-2": no such device is enrolled. Enrolled: local_cpu, tx2-1'),
    ([{"name": "gone"}], "no such device is enrolled"),
    ([{"name": "odd"}], "profile None"),
    ([{"profile": "local_cp"}], "Did you mean 'local_cpu'?"),
    ([{"name": "tx2-1"}, {"profile": "local_cpu"}], "names 2 devices"),
])
def test_devices(devices: list[dict[str, str]], said: str) -> None:
    assert said in refusal(devices=devices)


def test_a_profile_needs_a_device_under_its_name() -> None:
    campaign = from_document(SPEC)
    with pytest.raises(UserError, match="fleetfront device enrol local_cpu"):
        DAEMON.check_campaign(campaign, [])
    Admission().check_campaign(campaign, [])
    Admission().check_task("any.module:at_all")
