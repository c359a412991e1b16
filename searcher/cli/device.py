"""``fleetfront device``: enrol a device, and take it in and out of service."""

from typing import TYPE_CHECKING, Annotated

import typer

from searcher.cli.durations import duration_s
from searcher.cli.options import HERE, Directory, Url, client_of

if TYPE_CHECKING:
    from searcher.client.http import DeviceState

Name = Annotated[str, typer.Argument(help="Name of the device.")]

app = typer.Typer(no_args_is_help=True, help="Enrol a device; take it in and out of service.")


@app.command()
def enrol(
    name: Name,
    profile: Annotated[str | None, typer.Option(help="Name of the device profile.")] = None,
    ttl: Annotated[str, typer.Option(help="Validity of the line: 30m, 1h, 7d.")] = "1h",
    advertise: Annotated[str | None, typer.Option(
        help="URL of the coordinator as the device reaches it.")] = None,
    directory: Directory = HERE,
    url: Url = None,
) -> None:
    """Print a line for the shell of the device NAME that makes it join. The line works once."""
    from searcher.devices.join_command import Invitation, is_loopback

    with client_of(directory, url) as client:
        made = client.create_enrolment(name, "agent", profile, duration_s(ttl))
        address = advertise or made.advertised or client.url
    invitation = Invitation(name, made.token, made.agent_sha256, made.fingerprint)
    typer.echo(invitation.line(address))
    if is_loopback(address):
        typer.echo(f"{address} is reachable from this machine only. For another machine, give "
                   "the address that it can reach: --advertise http://HOST:PORT.", err=True)


def _set(name: str, state: "DeviceState", reason: str | None, directory: Directory, url: Url
         ) -> None:
    with client_of(directory, url) as client:
        device = client.set_device_state(name, state, reason)
    busy = "" if device.job is None else f"; job {device.job} ends normally"
    typer.echo(f"{name}: {device.state}{busy}")


@app.command()
def drain(name: Name, directory: Directory = HERE, url: Url = None) -> None:
    """Give the device NAME no further jobs; its running job ends normally."""
    _set(name, "draining", None, directory, url)


@app.command()
def quarantine(
    name: Name,
    reason: Annotated[str | None, typer.Option(help="Shown by `fleetfront devices`.")] = None,
    directory: Directory = HERE,
    url: Url = None,
) -> None:
    """Give the device NAME no further jobs until it is released; its queued jobs wait."""
    _set(name, "quarantined", reason, directory, url)


@app.command()
def release(name: Name, directory: Directory = HERE, url: Url = None) -> None:
    """Return the device NAME to service after a drain or a quarantine."""
    _set(name, "active", None, directory, url)


@app.command()
def remove(name: Name, directory: Directory = HERE, url: Url = None) -> None:
    """Revoke the secret of the device NAME; its jobs fail, and its measurements are kept."""
    _set(name, "removed", None, directory, url)
