"""``fleetfront profiles``: list device profiles with the sources of their facts."""

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import typer

from searcher.cli.options import Format, OutputFormat, emit, print_table

if TYPE_CHECKING:
    from profiles.schema import DeviceProfile


def command(
    name: Annotated[str | None, typer.Argument(help="Print the facts of this profile.")] = None,
    format: OutputFormat = Format.table,
) -> None:
    """List the device profiles, or the facts of NAME with their sources."""
    from profiles.schema import ProfileError, names, profile
    from searcher.errors import UserError

    try:
        found = [profile(one) for one in ([name] if name else names())]
    except ProfileError as error:
        raise UserError(str(error)) from error
    if name:
        facts = _facts(found[0])
        emit(found[0].as_dict(), facts, format, lambda: print_table(
            f"{name}: {found[0].description}", ("fact", "value", "source"),
            [list(fact.values()) if fact["fact"] != before["fact"] else ["", fact["value"], ""]
             for before, fact in pairwise([{"fact": ""}, *facts])]))
        return
    rows = [_row(one) for one in found]
    emit([one.as_dict() for one in found], rows, format, lambda: print_table(
        "device profiles", tuple(rows[0]), [list(row.values()) for row in rows]))


def _facts(found: "DeviceProfile") -> list[dict[str, str]]:
    """One row per fact; facts with several entries, such as power modes, have one row per entry."""
    document = found.as_dict()
    rows = []
    for fact in (key for key in document if key in found.sources):
        value = document[fact]
        entries = value if value and isinstance(value, list) and isinstance(value[0], dict) else (
            [{key: entry} for key, entry in value.items()] if isinstance(value, dict) else [value])
        for entry in entries:
            rows.append({"fact": fact, "value": _text(entry), "source": found.sources[fact]})
    return rows


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def _row(found: "DeviceProfile") -> dict[str, str]:
    def known(value: object) -> str:
        return "-" if value is None or value == () else str(value)

    return {
        "profile": found.name, "number_formats": ", ".join(sorted(found.number_formats)),
        "int8": {"uint8": "U8S8", "int8": "S8S8"}.get(found.int8_activations or "", "-"),
        "opset": known(found.opset), "ir_version": known(found.ir_version),
        "runtime": " ".join(filter(None, (found.runtime, found.runtime_version))),
        "python": known(found.python), "compute_capability": known(found.compute_capability),
        "memory_gib": " ".join(f"{size / 2**30:g}" for size in found.memory_bytes) or "-",
        "power_rails": " + ".join(found.rails.total) if found.rails else "-",
        "unverified": ", ".join(found.unverified) or "-",
    }
