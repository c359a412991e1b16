"""``fleetfront serve``: the daemon."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory


class LogForm(StrEnum):
    """Format of log lines."""

    text = "text"
    json = "json"


class Level(StrEnum):
    """Lowest level that is logged; ``debug`` includes every request."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def command(
    directory: Directory = HERE,
    host: Annotated[str, typer.Option(
        help="Address to listen on; 0.0.0.0 for all. Beyond loopback, use TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free port.")] = 8700,
    tls: Annotated[bool, typer.Option(
        "--tls", help="Serve https with a self-signed certificate, made once in DIR/tls.")] = False,
    certificate: Annotated[Path | None, typer.Option(
        help="Serve https with this certificate and its chain (PEM) instead.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the certificate (PEM).")] = None,
    insecure_plain_http: Annotated[bool, typer.Option(
        "--insecure-plain-http", help="Listen beyond loopback without TLS. Anyone who reads the "
                                      "network traffic gets every token and model.")] = False,
    advertise: Annotated[str | None, typer.Option(
        help="URL of this daemon as devices reach it, if different.")] = None,
    builders: Annotated[int, typer.Option(help="Number of builder processes.")] = 1,
    workers: Annotated[str | None, typer.Option(
        metavar="NAME", help="Worker pool that runs builders: process_pool, in_process or an "
                             "installed one.")] = None,
    searches: Annotated[int, typer.Option(
        min=1, help="Maximum number of simultaneous searches; by priority, then age.")] = 4,
    tasks: Annotated[list[str] | None, typer.Option(
        help="Python task that campaigns may use, as package.module:factory; repeatable.",
    )] = None,
    keep: Annotated[str | None, typer.Option(
        help="Limit for artifacts and builds, such as 50GB. The oldest files that no front, job or "
             "running trial needs are dropped, and built again on demand.")] = None,
    largest_upload: Annotated[int, typer.Option(
        min=1, help="Largest upload in bytes.")] = 2_000_000_000,
    log_format: Annotated[LogForm, typer.Option(
        help="text, or json with one object per line.")] = LogForm.text,
    log_level: Annotated[Level, typer.Option(
        help="debug, info, warning or error.")] = Level.info,
) -> None:
    """Serve DIR: queue, ledger, builders and searches, for campaigns and for devices that come and
    go. SIGTERM and Ctrl-C stop the daemon; the same command continues where it stopped."""
    from searcher.api.http.logs import configure
    from searcher.api.server import serve
    from searcher.api.settings import ServerSettings
    from searcher.artifacts.eviction import parse_bytes
    from searcher.local.process_tree import check_disk

    settings = ServerSettings(
        directory.absolute(), host, port, builders, searches, tuple(tasks or ()), tls, certificate,
        key, insecure_plain_http, advertise, log_format.value, log_level.value,
        keep_bytes=None if keep is None else parse_bytes(keep),
        largest_upload_bytes=largest_upload, workers=workers or ServerSettings.workers)
    directory.mkdir(parents=True, exist_ok=True)
    check_disk(directory)
    configure(settings.log_format, settings.log_level)
    serve(settings, lambda address: _announce(address, directory))


def _announce(address: Mapping[str, object], directory: Path) -> None:
    typer.echo(f"fleetfront serves {directory} at {address['url']}")
    if address["advertised"] != address["url"]:
        typer.echo(f"devices reach it at {address['advertised']}")
    if address["fingerprint"] is not None:
        typer.echo(f"fingerprint {address['fingerprint']}")
