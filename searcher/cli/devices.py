"""``fleetfront devices``: list the devices and their states."""

import time
from typing import TYPE_CHECKING

import typer

from searcher.cli.durations import ago_text
from searcher.cli.options import (
    HERE,
    Directory,
    Format,
    OutputFormat,
    Url,
    client_of,
    emit,
    print_table,
)

if TYPE_CHECKING:
    from searcher.client.records import Device

COLUMNS = ("device", "state", "seen", "job", "strikes", "reason")


def command(
    directory: Directory = HERE, url: Url = None, format: OutputFormat = Format.table
) -> None:
    """List the devices: state, time since the last contact, current job, reason for being out of
    service, and contradictions with their profiles."""
    from searcher.documents import plain

    with client_of(directory, url) as client:
        found = client.devices()
    now_s = time.time()
    rows = [_row(device, now_s) for device in found]

    def table() -> None:
        print_table("devices", COLUMNS, [_cells(device, now_s) for device in found])
        for device in found:
            for contradiction in device.contradictions:
                typer.echo(f"{device.name} ({device.profile}): {contradiction}")

    emit([plain(device) for device in found], rows, format, table)


def _seen_s(device: "Device", now_s: float) -> float:
    """Seconds since the device was last seen."""
    return round(max(now_s - (device.last_seen_s or device.created_s), 0.0), 1)


def _row(device: "Device", now_s: float) -> dict[str, str | int | float | None]:
    return {
        "device": device.name, "state": device.state, "profile": device.profile,
        "seen_s": _seen_s(device, now_s), "job": device.job, "strikes": device.strikes,
        "reason": device.reason, "contradictions": "; ".join(device.contradictions),
    }


def _cells(device: "Device", now_s: float) -> list[str]:
    return [device.name, device.state, f"{ago_text(_seen_s(device, now_s))} ago",
            "-" if device.job is None else str(device.job), str(device.strikes),
            device.reason or ""]
