"""Leases, results and fences for random orders of events, as a state machine."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.searcher_tests.dispatch.lease_machine import GroupedMachine, LeaseMachine

MANY_STEPS = settings(
    derandomize=True, max_examples=20, stateful_step_count=40, deadline=None, database=None,
    suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("machine", [LeaseMachine, GroupedMachine])
def test_the_lease_rules_hold(machine: type[LeaseMachine]) -> None:
    run_state_machine_as_test(machine, settings=MANY_STEPS)
