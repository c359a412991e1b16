"""Damages a ledger as a program other than fleetfront might."""

from pathlib import Path

PAGE = 4096


def overwrite_middle(path: Path) -> None:
    """Overwrites the pages of the middle third of the file with zeroes; its head is unchanged."""
    pages = path.stat().st_size // PAGE
    with path.open("r+b") as file:
        file.seek(pages // 3 * PAGE)
        file.write(b"\x00" * PAGE * (pages // 3))
