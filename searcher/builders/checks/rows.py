"""Rows of a check, and the boundary to the user's code: what it raises becomes a row."""

from collections.abc import Callable
from typing import TypeVar

from searcher.errors import FleetfrontError
from searcher.jobs.check_task import CheckRow
from searcher.tasks.user_code import raised

Value = TypeVar("Value")


class Table:
    """The rows of a check in the order in which they were found."""

    def __init__(self) -> None:
        self.rows: list[CheckRow] = []

    def ok(self, field: str, found: str) -> None:
        self.rows.append(CheckRow(field, found))

    def note(self, field: str, found: str) -> None:
        self.rows.append(CheckRow(field, found, "note"))

    def warn(self, field: str, found: str, remedy: str) -> None:
        self.rows.append(CheckRow(field, found, "warning", remedy))

    def fail(self, field: str, found: str, remedy: str = "") -> None:
        self.rows.append(CheckRow(field, found, "error", remedy))

    def skip(self, fields: tuple[str, ...], why: str) -> None:
        """Rows for what could not be checked."""
        self.rows += [CheckRow(field, why, "not checked") for field in fields]

    @property
    def failed(self) -> bool:
        return any(row.verdict == "error" for row in self.rows)

    def attempt(self, field: str, action: Callable[[], Value], remedy: str = "") -> Value | None:
        """The result of ``action``, which calls the user's code; None, with a row that is an error,
        where it raises."""
        try:
            return action()
        except FleetfrontError as error:
            self.fail(field, str(error), remedy)
        except Exception as error:  # noqa: BLE001  a user's code may raise anything
            self.fail(field, raised(error), remedy)
        return None
