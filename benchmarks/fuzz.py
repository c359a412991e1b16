"""Fuzzes every route of the coordinator with schemathesis, for every role and unauthenticated.

    python -m benchmarks.fuzz [--examples 100]
"""

import tempfile
from collections import Counter
from pathlib import Path

import typer

from tests.searcher_tests.api.every_route import CALLERS, Tried, survey


def main(examples: int = 100) -> None:
    """Sends ``examples`` valid and as many invalid requests to every route, as every caller. Exit
    code 1 if a response violates the OpenAPI document or the roles."""
    with tempfile.TemporaryDirectory() as folder:
        found = survey(Path(folder), examples)
    print(table(found))
    failures = [(key, failure) for key, tried in found.items() for failure in tried.failures]
    for (route, who), failure in failures:
        print(f"\n{route} as {who}: {failure}")
    raise typer.Exit(1 if failures else 0)


def table(found: dict[tuple[str, str], Tried]) -> str:
    """One line per caller."""
    lines = ["caller    operations  requests  failures  statuses"]
    for who in CALLERS:
        tried = [one for (_, caller), one in found.items() if caller == who]
        statuses = sum((one.statuses for one in tried), Counter[int]())
        shown = " ".join(f"{status}:{statuses[status]}" for status in sorted(statuses))
        failures = sum(len(one.failures) for one in tried)
        lines.append(f"{who:<10}{len(tried):>10}{statuses.total():>10}{failures:>10}  {shown}")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
