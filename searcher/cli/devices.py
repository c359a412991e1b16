"""``fleetfront devices``: the lab and how each device stands."""

import time
from typing import Any

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


def command(
    directory: Directory = HERE, url: Url = None, format: OutputFormat = Format.table
) -> None:
    """List the devices: state, when each was last seen, what it works on, why it is out, and
    what contradicts their profiles."""
    with client_of(directory, url) as client:
        found = client.devices()
    now_s = time.time()
    rows = [_row(device, now_s) for device in found]
    columns = ("device", "state", "seen", "job", "strikes", "reason")

    def table() -> None:
        print_table("devices", columns, [
            [row["device"], row["state"], f"{ago_text(row['seen_s'])} ago",
             "-" if row["job"] is None else str(row["job"]), str(row["strikes"]),
             row["reason"] or ""] for row in rows])
        for device in found:
            for contradiction in device["contradictions"]:
                typer.echo(f"{device['name']} ({device['profile']}): {contradiction}")

    emit(found, rows, format, table)


def _row(device: dict[str, Any], now_s: float) -> dict[str, Any]:
    seen_s = now_s - (device["last_seen_s"] or device["created_s"])
    return {
        "device": device["name"], "state": device["state"], "profile": device["profile"],
        "seen_s": round(max(seen_s, 0.0), 1), "job": device["job"], "strikes": device["strikes"],
        "reason": device["reason"], "contradictions": "; ".join(device["contradictions"]),
    }
