"""``pytest --fleetfront-contracts DISTRIBUTION``: the contract suites for an installed extension.

Every entry point of the distribution in a group ``fleetfront.*`` is run through the suite of its
extension point. Only that is collected, unless files or folders are named too.
"""

from importlib import metadata
from pathlib import Path

import pytest

OPTION = "--fleetfront-contracts"
SUITES = Path(__file__).with_name("installed.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fleetfront")
    group.addoption(OPTION, action="append", metavar="DISTRIBUTION", default=[], help=(
        "run fleetfront's contract suites for the entry points of this installed distribution"))


def pytest_configure(config: pytest.Config) -> None:
    distributions = config.getoption(OPTION)
    if not distributions:
        return
    for name in distributions:
        if not groups_of(name):
            raise pytest.UsageError(
                f"{OPTION} {name}: no distribution of that name with an entry point in a group "
                "fleetfront.* is installed here. Install it first; `pip list` shows the names.")
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    config.args = [*(config.args if named else []), str(SUITES)]


def groups_of(distribution: str) -> set[str]:
    """The groups ``fleetfront.*`` in which ``distribution`` has an entry point."""
    try:
        points = metadata.distribution(distribution).entry_points
    except metadata.PackageNotFoundError:
        return set()
    return {point.group for point in points if point.group.startswith("fleetfront.")}
