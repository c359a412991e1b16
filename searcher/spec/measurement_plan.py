"""Measurement plans: how long and how often to measure one candidate.

A plan is the message ``MeasurePlan`` of the agents' protocol.
"""

import math
from collections.abc import Mapping

from agents.protocol import MeasurePlan
from searcher.errors import UserError, nearest

GATE = 0.10
"""Largest relative excess of the reference over its quiet level for a block to count. In the quiet
state a machine varies by a few percent (frequency, placement of sessions); its slow state is far
above. Between gates of 6 and 13 % the ratios differed by less than 0.5 %, but 6 % rejected
half of the quiet blocks."""


_QUICK = MeasurePlan(
    "quick", block_s=0.004, min_blocks=24, min_s=0.0, max_s=1.5, gate=GATE,
    fresh_session_every_s=0.5, warmup_s=0.05)
PLANS = {
    "quick": _QUICK,
    "standard": _QUICK._replace(
        name="standard", min_blocks=120, min_s=2.0, max_s=15.0, fresh_session_every_s=1.0,
        memory=True, processes=2, warmup_max_s=1.0, start_below_c=75.0, cool_down_s=30.0,
        energy_s=20.0, idle_s=5.0, nodes=True),
    "strict": _QUICK._replace(
        name="strict", min_blocks=400, min_s=8.0, max_s=60.0, fresh_session_every_s=1.0,
        memory=True, processes=4, warmup_max_s=5.0, start_below_c=60.0, cool_down_s=600.0,
        refuse_doubt=True, energy_s=60.0, idle_s=10.0, nodes=True),
}


def screening_plan(plan: MeasurePlan, energy: bool = False) -> MeasurePlan:
    """The short plan for untrained candidates: only enough blocks to decide about training.

    On a busy machine it does not wait for quiet blocks; ``rough_ratio`` is then used instead.
    ``energy``: whether energy is an objective and must be measured already.
    """
    if not energy:
        plan = plan._replace(energy_s=0.0, idle_s=0.0)
    return plan._replace(
        name=f"{plan.name}-screening", min_blocks=max(8, plan.min_blocks // 3),
        min_s=min(plan.min_s, plan.max_s / 10) / 2, max_s=plan.max_s / 10, memory=False,
        processes=1, warmup_s=min(plan.warmup_s, 0.01), warmup_max_s=0.0, refuse_doubt=False,
        nodes=False)


def plan_of(value: str | Mapping[str, object]) -> MeasurePlan:
    """The plan of this name, or ``quick`` with the fields of a table. Raises UserError."""
    if isinstance(value, str):
        if value not in PLANS:
            raise UserError(f"Unknown measurement plan {value!r}. {nearest(value, PLANS)}")
        return PLANS[value]
    known = set(MeasurePlan._fields)
    for key in value:
        if key not in known:
            raise UserError(f"Unknown key {key!r} in the measurement plan. {nearest(key, known)}")
        _check_type(key, value[key])
    # Not parsed: 3 must not become 3.0, because the plan is part of the identity of a job.
    plan = _QUICK._replace(**{"name": "custom", **value})  # type: ignore[arg-type]
    if plan.block_s <= 0 or plan.min_blocks < 6 or plan.max_s <= 0 or plan.processes < 1:
        raise UserError("A measurement plan needs block_s > 0, min_blocks >= 6, max_s > 0 and "
                        f"processes >= 1, got {plan._asdict()}.")
    return plan


def _check_type(key: str, value: object) -> None:
    kind = type(getattr(PLANS["quick"], key))
    right = isinstance(value, int | float if kind is float else kind)
    if kind in (int, float):
        right = isinstance(value, int | float) and right and not isinstance(value, bool) and (
            0 <= value < math.inf)
    if not right:
        words = {bool: "true or false", int: "a whole number", float: "a number of at least 0"}
        raise UserError(f"{key} = {value!r} in the measurement plan must be "
                        f"{words.get(kind, 'a text')}.")
