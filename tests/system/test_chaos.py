"""One fault of every kind against real processes, and the audit."""

import functools
import json
import sqlite3
import subprocess
import sys

import pytest

from benchmarks.chaos.journal import body_of, read_journal
from benchmarks.chaos.plan import SHARES
from benchmarks.chaos.proxy import FAULTS
from benchmarks.chaos.replay import compare_fronts
from tests.system.real import REPOSITORY, environment

SECONDS = 300
RULES = 12


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The folder of a run with one fault of every kind."""
    folder = tmp_path_factory.mktemp("chaos") / "run"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--faults", str(len(SHARES) + len(FAULTS)),
         "--minutes", "4", "--shipped", "--dir", folder],
        cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=SECONDS,
        check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "shipped"


def test_one_fault_of_every_kind_loses_nothing(story):
    audit = json.loads((story / "audit.json").read_text())
    assert len(audit) == RULES and all(rule["checked"] for rule in audit)
    assert [rule for rule in audit if rule["violations"]] == []


def test_a_front_that_differs_is_found(story, tmp_path):
    with sqlite3.connect(story / "data" / "ledger.db") as db:
        db.execute("UPDATE search_state SET state ="
                   " json_set(state, '$.baseline.values.accuracy', 0.5)")
    db.close()
    finding = compare_fronts(
        read_journal(story / "journal"), story / "data",
        functools.partial(body_of, story / "journal"), tmp_path / "undisturbed")
    assert len(finding.violations) == finding.checked > 0
    assert "they differ in baseline" in finding.violations[0]
