"""Energy as values with intervals, and devices without energy."""

from dataclasses import replace
from typing import Any

import pytest

from agents.protocol import EnergyMeasured
from searcher.dispatch.admission import check_meters
from searcher.errors import UserError
from searcher.spec.campaign import from_document
from searcher.spec.measurement_plan import PLANS, screening_plan
from searcher.statistics.energy import energy_notes, figures, missing_energy
from searcher.statistics.measured import Quantile, Summary
from tests.searcher_tests.dispatch.laboratory import SPEC
from tests.searcher_tests.dispatch.test_admission import DAEMON, device

MEASURED = EnergyMeasured(
    "", "VDD_IN", net_j=0.02, net_error_j=0.001, gross_j=0.03, gross_error_j=0.0005, power_w=6.0,
    power_error_w=0.1)
NONE = Quantile()
WITHOUT = Summary(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, NONE, NONE, NONE, 1.0, 1, 1, 1.0)


def with_energy(**changes: Any) -> Summary:
    return replace(WITHOUT, energy=MEASURED._replace(**changes))


CAMPAIGN = from_document({**SPEC, "objectives": {"accuracy": "maximize", "energy_j": "minimize"},
                          "measurement": {"plan": {"energy_s": 20.0, "idle_s": 5.0}}})


def test_figures_have_their_errors_on_both_sides() -> None:
    values, intervals = figures(with_energy())
    assert values == {"energy_j": 0.02, "energy_gross_j": 0.03, "power_w": 6.0}
    assert intervals["energy_j"] == pytest.approx([0.019, 0.021])
    assert figures(None) == ({}, {}) == figures(WITHOUT)


def test_what_is_lacking_has_the_reason_of_the_meter() -> None:
    assert missing_energy(with_energy(), ["accuracy", "energy_j"]) is None
    assert missing_energy(None, ["accuracy", "latency_s"]) is None
    assert missing_energy(None, ["power_w"]) == "no power_w: it was not measured"
    gross = with_energy(net_j=None, idle_problem="idle: meter gaps")
    assert missing_energy(gross, ["energy_j", "power_w"]) == "no energy_j: idle: meter gaps"


def test_a_reader_is_told_of_what_the_energy_is() -> None:
    assert energy_notes(with_energy()) == ["energy covers VDD_IN"]
    assert energy_notes(with_energy(problem="no meter: none")) == [
        "no energy: no meter: none"]
    assert energy_notes(WITHOUT) == []


@pytest.mark.parametrize(("capabilities", "words"), [
    ({"energy": {"cpu": "no meter: rapl: root only", "gpu": "no meter: none"}}, "rapl: root only"),
    ({"energy": {"cpu": "no meter: only gpu", "gpu": "ok"}}, "only gpu"),
    ({}, "does not report meters"),
])
def test_energy_of_a_device_without_a_meter_is_refused_at_submission(
    capabilities: dict[str, Any], words: str
) -> None:
    bare = replace(device("local_cpu"), capabilities=capabilities)
    with pytest.raises(UserError, match=words):
        DAEMON.check_campaign(CAMPAIGN, [bare])
    with pytest.raises(UserError, match="energy_j needs a meter, and device 'local_cpu'"):
        check_meters(CAMPAIGN, bare)
    check_meters(from_document(SPEC), bare)


def test_energy_of_a_device_with_a_meter_is_let_in() -> None:
    able = {"energy": {"cpu": "ok", "gpu": "no meter: none"}}
    DAEMON.check_campaign(CAMPAIGN, [replace(device("local_cpu"), capabilities=able)])


def test_screening_measures_energy_only_where_it_is_an_objective() -> None:
    assert screening_plan(PLANS["standard"]).energy_s == 0
    assert screening_plan(PLANS["standard"], energy=True).energy_s == PLANS["standard"].energy_s
