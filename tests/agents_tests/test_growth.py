"""Hundreds of jobs in one agent, with every sort of trouble, and nothing that stays behind."""

import json
import subprocess
import sys

from tests.agents_tests.fakes import ROOT

JOBS = 200
STRAY_BYTES = 16 * 1024
"""A leak of one small object for each of the jobs would be more."""


def test_an_agent_does_not_grow():
    # In a process of its own: what other tests have left open may end at any moment.
    day = json.loads(subprocess.run(
        [sys.executable, "-m", "benchmarks.agent_day", "--jobs", str(JOBS)], cwd=ROOT, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode())
    early, late = day["early"], day["late"]
    assert day["jobs"] == JOBS and day["hours"] > 23.9
    assert day["accepted"] + day["refused"] == JOBS and day["refused"] == JOBS // 23
    assert day["reconnected"] == 3 * (JOBS // 37) and day["waiting"] == 0
    assert late["traced_bytes"] - early["traced_bytes"] < STRAY_BYTES
    assert late["descriptors"] == early["descriptors"] and late["threads"] == early["threads"]
