"""``python -m benchmarks.chaos``: run and audit, with the shipped and a defective coordinator."""

import argparse
import asyncio
import functools
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos import plan
from benchmarks.chaos.audit import Finding, audit
from benchmarks.chaos.journal import body_of, read_journal
from benchmarks.chaos.processes import DEFECTIVE, SHIPPED
from benchmarks.chaos.proxy import FAULTS
from benchmarks.chaos.replay import as_json, compare_fronts
from benchmarks.chaos.running import RunRecord, Settings, run
from benchmarks.checks import Check, against, conclude, holds
from searcher.cli.options import print_table
from searcher.errors import LedgerError
from searcher.ledger.read_only import open_ledger

AUDIT_S = 120.0
"""Part of the time limit that is reserved for emptying the queue and for the audit."""
LEAST_KILLS = 0.15
DEFECTIVE_FAULTS, DEFECTIVE_S = 80, 60.0
SHIPPED_PATIENCE_S, DEFECTIVE_PATIENCE_S = 180.0, 30.0
SHOWN = 3


def audited(record: RunRecord, folder: Path) -> list[Finding]:
    """Checks all rules on the journal and the ledger of a run. Copies the disk to ``folder/data``.
    """
    shutil.copytree(record.data, folder / "data")
    record.disk.close()
    exchanges, body = read_journal(record.journal), functools.partial(body_of, record.journal)
    emptied = Finding("after the last fault, the queue empties and the search ends", 1,
                      () if record.emptied else ("it did not",))
    try:
        with open_ledger(folder / "data" / "ledger.db") as db:
            findings = audit(exchanges, db, body, folder / "data" / "artifacts")
        findings.append(compare_fronts(exchanges, folder / "data", body, folder / "undisturbed"))
    except LedgerError as error:
        findings = [Finding("the ledger opens", 1, (str(error),))]
    found = [emptied, *findings]
    (folder / "audit.json").write_text(as_json(found))
    return found


def show(title: str, record: RunRecord, findings: Sequence[Finding]) -> None:
    print_table(f"{title}: faults", ("kind", "number"), [
        *((kind, str(record.injected[kind])) for kind in (*plan.SHARES, *FAULTS)),
        ("all", str(record.faults))])
    print(f"faults injected for {record.disturbed_s:.0f} s, then {record.calm_s:.0f} s until the "
          "queue was empty and all processes had stopped; starts: " + ", ".join(
              f"{name} {count}" for name, count in record.starts.items()))
    if record.start_s:
        print(f"coordinator: serves {statistics.median(record.start_s):.2f} s after a SIGKILL "
              f"(median; longest {max(record.start_s):.2f} s)")
    print("\n".join(record.notes))
    print_table(f"{title}: audit", ("rule", "checked", "violations", "examples"), [
        (f.rule, str(f.checked), str(len(f.violations)), "; ".join(f.violations[:SHOWN])[:300])
        for f in findings])


def one_run(title: str, folder: Path, settings: Settings) -> tuple[RunRecord, list[Finding]]:
    record = asyncio.run(run(folder, settings))
    findings = audited(record, folder)
    show(title, record, findings)
    return record, findings


def checks_of(record: RunRecord, findings: Sequence[Finding], faults: int) -> list[Check]:
    broken = sum(len(f.violations) for f in findings)
    if not record.clock_works:
        print("The clock was not changed: this requires Linux and a C compiler.")
        faults -= plan.counts(faults)[plan.JUMP]
    return [
        against("faults injected", record.faults, ">=", faults, digits=0),
        against("SIGKILLs of the coordinator", record.injected[plan.KILL], ">=",
                min(int(LEAST_KILLS * faults), plan.counts(faults)[plan.KILL]), digits=0),
        holds("every rule was checked", all(f.checked for f in findings),
              f"{sum(f.checked for f in findings)} checks", "each more than 0"),
        holds("violations of the audit's rules", broken == 0, str(broken), "0"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=40.0,
                        help="time limit of the run with faults, including emptying the queue")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dir", type=Path, help="keep journal, ledger and logs in this new folder")
    parser.add_argument("--planted", action="store_true", help="run only the defective coordinator")
    parser.add_argument("--shipped", action="store_true", help="run only the shipped coordinator")
    arguments = parser.parse_args()
    if arguments.dir is not None and arguments.dir.exists():
        parser.error(f"{arguments.dir} exists already; name another folder")
    folder: Path = arguments.dir or Path(tempfile.mkdtemp(prefix="fleetfront-chaos-"))
    checks: list[Check] = []
    if not arguments.planted:
        seconds = max(arguments.minutes * 60 - AUDIT_S, arguments.minutes * 30)
        record, findings = one_run("shipped", folder / "shipped", Settings(
            arguments.faults, seconds, arguments.seed, SHIPPED, SHIPPED_PATIENCE_S))
        checks += checks_of(record, findings, arguments.faults)
    if not arguments.shipped:
        defective = Settings(min(DEFECTIVE_FAULTS, arguments.faults), DEFECTIVE_S, arguments.seed,
                             DEFECTIVE, DEFECTIVE_PATIENCE_S)
        _, findings = one_run("defective coordinator: acknowledges before the commit",
                              folder / "planted", defective)
        lost = sum(len(f.violations) for f in findings)
        checks.append(holds("the audit detects early acknowledgement", lost > 0,
                            f"{lost} violations", "more than 0"))
    if arguments.dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    return conclude(checks, "chaos")


if __name__ == "__main__":
    sys.exit(main())
