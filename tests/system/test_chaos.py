"""One fault of every kind against real processes, and the audit."""

import json
import subprocess
import sys

from benchmarks.chaos.plan import SHARES
from benchmarks.chaos.proxy import FAULTS
from tests.system.real import REPOSITORY, environment

SECONDS = 240


def test_a_few_faults_of_every_kind_lose_nothing(tmp_path):
    folder = tmp_path / "chaos"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--faults", str(len(SHARES) + len(FAULTS)),
         "--minutes", "4", "--shipped", "--dir", folder],
        cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=SECONDS,
        check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    audit = json.loads((folder / "shipped" / "audit.json").read_text())
    assert len(audit) == 12 and all(rule["checked"] for rule in audit)
