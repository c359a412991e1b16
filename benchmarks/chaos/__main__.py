"""``python -m benchmarks.chaos``: the run, the audit, and both once more with a planted bug."""

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
from benchmarks.chaos.house import PLANTED, SHIPPED
from benchmarks.chaos.journal import body_of, read_journal
from benchmarks.chaos.proxy import FAULTS
from benchmarks.chaos.replay import as_json, compare_fronts
from benchmarks.chaos.running import Settings, Story, run
from benchmarks.checks import Check, against, conclude, holds
from searcher.cli.options import print_table
from searcher.errors import LedgerError
from searcher.ledger.read_only import open_ledger

CALM_S = 120.0
"""Of the time limit, what is left for emptying the queue and for the audit."""
LEAST_KILLS = 0.15
PLANTED_FAULTS, PLANTED_S = 80, 60.0
SHIPPED_PATIENCE_S, PLANTED_PATIENCE_S = 180.0, 30.0
SHOWN = 3


def audited(story: Story, folder: Path) -> list[Finding]:
    """All rules, on the journal and the ledger of a run; the disk is kept as ``folder/data``."""
    shutil.copytree(story.data, folder / "data")
    story.disk.close()
    exchanges, body = read_journal(story.journal), functools.partial(body_of, story.journal)
    emptied = Finding("left alone, the queue empties and the search ends", 1,
                      () if story.emptied else ("it did not",))
    try:
        with open_ledger(folder / "data" / "ledger.db") as db:
            findings = audit(exchanges, db, body, folder / "data" / "artifacts")
        findings.append(compare_fronts(exchanges, folder / "data", body, folder / "undisturbed"))
    except LedgerError as error:
        findings = [Finding("the ledger opens", 1, (str(error),))]
    found = [emptied, *findings]
    (folder / "audit.json").write_text(as_json(found))
    return found


def show(title: str, story: Story, findings: Sequence[Finding]) -> None:
    print_table(f"{title}: faults", ("kind", "number"), [
        *((kind, str(story.injected[kind])) for kind in (*plan.SHARES, *FAULTS)),
        ("all", str(story.faults))])
    print(f"disturbed for {story.disturbed_s:.0f} s, then {story.calm_s:.0f} s until the queue was "
          f"empty and all had stopped; starts: " + ", ".join(
              f"{name} {count}" for name, count in story.starts.items()))
    if story.start_s:
        print(f"coordinator: serves {statistics.median(story.start_s):.2f} s after it was killed "
              f"(median; longest {max(story.start_s):.2f} s)")
    print("\n".join(story.notes))
    print_table(f"{title}: audit", ("rule", "checked", "violations", "for example"), [
        (f.rule, str(f.checked), str(len(f.violations)), "; ".join(f.violations[:SHOWN])[:300])
        for f in findings])


def one_run(title: str, folder: Path, settings: Settings) -> tuple[Story, list[Finding]]:
    story = asyncio.run(run(folder, settings))
    findings = audited(story, folder)
    show(title, story, findings)
    return story, findings


def checks_of(story: Story, findings: Sequence[Finding], faults: int) -> list[Check]:
    broken = sum(len(f.violations) for f in findings)
    if not story.clock_works:
        print("The clock did not jump: that takes Linux and a C compiler.")
        faults -= plan.counts(faults)[plan.JUMP]
    return [
        against("faults injected", story.faults, ">=", faults, digits=0),
        against("SIGKILLs of the coordinator", story.injected[plan.KILL], ">=",
                min(int(LEAST_KILLS * faults), plan.counts(faults)[plan.KILL]), digits=0),
        holds("every rule was looked at", all(f.checked for f in findings),
              f"{sum(f.checked for f in findings)} checks", "each more than 0"),
        holds("violations of what was acknowledged", broken == 0, str(broken), "0"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=40.0,
                        help="time limit of the disturbed run, the emptying of the queue included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dir", type=Path, help="keep journal, ledger and logs in this new folder")
    parser.add_argument("--planted", action="store_true", help="only the run with the planted bug")
    parser.add_argument("--shipped", action="store_true", help="only the run without it")
    arguments = parser.parse_args()
    if arguments.dir is not None and arguments.dir.exists():
        parser.error(f"{arguments.dir} exists already; name another folder")
    folder: Path = arguments.dir or Path(tempfile.mkdtemp(prefix="fleetfront-chaos-"))
    checks: list[Check] = []
    if not arguments.planted:
        seconds = max(arguments.minutes * 60 - CALM_S, arguments.minutes * 30)
        story, findings = one_run("shipped", folder / "shipped", Settings(
            arguments.faults, seconds, arguments.seed, SHIPPED, SHIPPED_PATIENCE_S))
        checks += checks_of(story, findings, arguments.faults)
    if not arguments.shipped:
        planted = Settings(min(PLANTED_FAULTS, arguments.faults), PLANTED_S, arguments.seed,
                           PLANTED, PLANTED_PATIENCE_S)
        _, findings = one_run("planted bug: acknowledged before the commit", folder / "planted",
                              planted)
        lost = sum(len(f.violations) for f in findings)
        checks.append(holds("the audit finds the planted bug", lost > 0, f"{lost} violations",
                            "more than 0"))
    if arguments.dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    return conclude(checks, "chaos")


if __name__ == "__main__":
    sys.exit(main())
