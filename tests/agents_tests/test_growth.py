"""Hundreds of jobs in one agent, with every sort of trouble, and nothing that stays behind."""

import logging

from benchmarks.agent_day import live

JOBS = 200
STRAY_BYTES = 12 * 1024
"""A leak of one small object for each of the jobs would be more."""


def test_an_agent_does_not_grow(tmp_path, caplog):
    # What pytest keeps of each log record would be the growth.
    logging.getLogger("fleetfront.agent").propagate = False
    try:
        day = live(str(tmp_path), JOBS)
    finally:
        logging.getLogger("fleetfront.agent").propagate = True
    early, late = day["early"], day["late"]
    assert day["jobs"] == JOBS and day["hours"] > 23.9
    assert day["accepted"] + day["refused"] == JOBS and day["refused"] == JOBS // 23
    assert day["reconnected"] > JOBS // 20 and day["waiting"] == 0
    assert late["traced_bytes"] - early["traced_bytes"] < STRAY_BYTES
    assert late["descriptors"] == early["descriptors"] and late["threads"] == early["threads"]
