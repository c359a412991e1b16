"""``fleetfront serve``: the daemon."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory


class LogForm(StrEnum):
    """How the log is written."""

    text = "text"
    json = "json"


class Level(StrEnum):
    """What the log tells at least; ``debug`` includes every request."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def command(
    directory: Directory = HERE,
    host: Annotated[str, typer.Option(
        help="Address to listen on; 0.0.0.0 for all. Beyond loopback it needs TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any free one.")] = 8700,
    tls: Annotated[bool, typer.Option(
        "--tls", help="Serve https with a certificate made once in DIR/tls.")] = False,
    certificate: Annotated[Path | None, typer.Option(
        help="Serve https with this certificate and its chain (PEM) instead.")] = None,
    key: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).")] = None,
    insecure_plain_http: Annotated[bool, typer.Option(
        "--insecure-plain-http", help="Listen beyond loopback without TLS: whoever sees the "
                                      "network's traffic gets every token and model.")] = False,
    advertise: Annotated[str | None, typer.Option(
        help="The URL under which devices reach this daemon, if it is another.")] = None,
    builders: Annotated[int, typer.Option(help="Builder processes.")] = 1,
    workers: Annotated[str | None, typer.Option(
        metavar="NAME", help="The worker pool that runs them: process_pool, in_process or one "
                             "that is installed.")] = None,
    searches: Annotated[int, typer.Option(
        min=1, help="Campaigns that are searched at once, by priority, then age.")] = 4,
    tasks: Annotated[list[str] | None, typer.Option(
        help="A Python task that campaigns may name, as package.module:factory; may be repeated.",
    )] = None,
    keep: Annotated[str | None, typer.Option(
        help="Bound on artifacts and builds, such as 50GB; what no front, job or running trial "
             "needs is then dropped, oldest first, and built again on demand.")] = None,
    largest_upload: Annotated[int, typer.Option(
        min=1, help="Bytes of the largest file that may be uploaded.")] = 2_000_000_000,
    log_format: Annotated[LogForm, typer.Option(
        help="A line for people, or one JSON object per line.")] = LogForm.text,
    log_level: Annotated[Level, typer.Option(
        help="debug, info, warning or error.")] = Level.info,
) -> None:
    """Serve DIR: queue, ledger, builders and searches, for campaigns and devices that come and
    go. SIGTERM and Ctrl-C stop it; the same command goes on where it was stopped."""
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
