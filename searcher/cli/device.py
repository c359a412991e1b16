"""``fleetfront device``: let a device join, and take it in and out of service."""

from typing import TYPE_CHECKING, Annotated

import typer

from searcher.cli.durations import duration_s
from searcher.cli.options import HERE, Directory, Url, client_of

if TYPE_CHECKING:
    from searcher.client.http import DeviceState

Name = Annotated[str, typer.Argument(help="Name of the device.")]

app = typer.Typer(no_args_is_help=True, help="Let a device join; take it in and out of service.")


@app.command()
def enrol(
    name: Name,
    profile: Annotated[str | None, typer.Option(help="Name of its profile.")] = None,
    ttl: Annotated[str, typer.Option(help="How long the line works: 30m, 1h, 7d.")] = "1h",
    advertise: Annotated[str | None, typer.Option(
        help="URL under which the device reaches the coordinator.")] = None,
    directory: Directory = HERE,
    url: Url = None,
) -> None:
    """Print one line for the shell of the device NAME, that makes it join. It works once."""
    from searcher.devices.join_command import Invitation, is_loopback

    with client_of(directory, url) as client:
        made = client.create_enrolment(name, "agent", profile, duration_s(ttl))
        address = advertise or made.advertised or client.url
    invitation = Invitation(name, made.token, made.agent_sha256, made.fingerprint)
    typer.echo(invitation.line(address))
    if is_loopback(address):
        typer.echo(f"{address} is reached from this machine only. For another one, name the "
                   "address that it sees: --advertise http://HOST:PORT.", err=True)


def _set(name: str, state: "DeviceState", reason: str | None, directory: Directory, url: Url
         ) -> None:
    with client_of(directory, url) as client:
        device = client.set_device_state(name, state, reason)
    busy = "" if device.job is None else f"; job {device.job} ends normally"
    typer.echo(f"{name}: {device.state}{busy}")


@app.command()
def drain(name: Name, directory: Directory = HERE, url: Url = None) -> None:
    """Give the device NAME no new job; the one that runs ends normally."""
    _set(name, "draining", None, directory, url)


@app.command()
def quarantine(
    name: Name,
    reason: Annotated[str | None, typer.Option(help="Why, for `fleetfront devices`.")] = None,
    directory: Directory = HERE,
    url: Url = None,
) -> None:
    """Keep the device NAME from any new job until it is released; its queued jobs wait."""
    _set(name, "quarantined", reason, directory, url)


@app.command()
def release(name: Name, directory: Directory = HERE, url: Url = None) -> None:
    """Put the device NAME back into service after a drain or a quarantine."""
    _set(name, "active", None, directory, url)


@app.command()
def remove(name: Name, directory: Directory = HERE, url: Url = None) -> None:
    """Revoke the secret of the device NAME; its jobs fail. What it measured stays."""
    _set(name, "removed", None, directory, url)
