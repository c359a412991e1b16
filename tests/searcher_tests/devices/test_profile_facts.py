"""Facts of the profile that an agent receives, compared with the recorded trees of the boards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents import protocol
from agents.measurement.energy.per_inference import select_rails
from agents.measurement.energy.rails import profile_coverage, with_profile_roles
from agents.meters.ina3221 import Ina3221Meter
from profiles.schema import names, profile
from searcher.api.routes.agents import _lease
from searcher.devices.profile_facts import facts_of, payload_for
from searcher.ledger.rows import JobRow
from tests.searcher_tests.dispatch.laboratory import Laboratory

TREES = Path(__file__).parents[2] / "sysfs"
BOARDS = sorted(path.name for path in TREES.glob("jetson_*"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def leased(lab: Laboratory, profile_name: str | None) -> dict[str, Any]:
    """Facts for the agent of a device with this profile."""
    token, _ = lab.coordinator.roster.invite("local_cpu", "agent", profile_name, 60.0)
    _, secret = lab.coordinator.enrol(token, "local_cpu", {"hostname": "elsewhere"}, {})
    agent = lab.coordinator.roster.recognised(secret)
    assert agent is not None and hasattr(agent, "device")
    lab.measure()
    job = lab.leased(agent)
    known = lab.coordinator.roster.profile_of(agent)
    lease = protocol.decode(protocol.Lease, _lease(job, 30.0, known))
    assert "profile" not in job.payload
    return lease.payload


@pytest.mark.parametrize("name", names())
def test_the_facts_of_every_profile_travel(name: str) -> None:
    facts = facts_of(profile(name))
    assert protocol.decode(protocol.ProfileFacts, protocol.encode(facts)) == facts


def test_a_measurement_carries_the_facts_of_the_devices_profile(lab: Laboratory) -> None:
    facts = protocol.decode(protocol.MeasurePayload, leased(lab, "jetson_tx2")).profile
    assert facts is not None and facts.total_rails == ["VDD_IN"]
    assert "VDD_MUX" in facts.single_rails and "VDD_SYS_CPU" in facts.single_rails
    assert facts.ignored_zones == ["PMIC-Die"] and facts.gpu_clock.endswith("cur_freq")
    assert facts.power_modes[0] == protocol.PowerMode("MAXN", 0, 2035000, 1300500)
    assert facts.power_modes[4].cpu_khz == 2035000, "of the fastest core"


def test_a_device_that_enrols_as_another_is_told_of_the_other(lab: Laboratory) -> None:
    assert leased(lab, "jetson_tx2")["profile"]["name"] == "jetson_tx2"
    lab.clock.advance(60.0)
    lab.coordinator.tick()
    assert leased(lab, "jetson_nano")["profile"]["name"] == "jetson_nano"


@pytest.mark.parametrize("name", [None, "local_cpu", "forgotten"])
def test_where_nothing_is_known_nothing_is_sent(lab: Laboratory, name: str | None) -> None:
    assert "profile" not in leased(lab, name)


def test_only_measurements_carry_it(lab: Laboratory) -> None:
    lab.compress()
    job: JobRow = lab.leased(lab.builder())
    assert payload_for(job, "jetson_tx2") is job.payload
    assert json.dumps(job.payload)


@pytest.mark.parametrize("board", BOARDS)
def test_profile_and_meter_choose_the_same_rails(board: str) -> None:
    meter = Ina3221Meter(str(TREES / board))
    assert meter.problem() is None
    facts = facts_of(profile(board))
    rails = with_profile_roles(meter.rails(), facts)
    places = select_rails(rails, "gpu").places
    assert places == select_rails(meter.rails(), "gpu").places
    assert profile_coverage([rails[place] for place in places], facts) == facts.rails_cover != ""
