"""The console script: runs the command, and turns errors into messages and exit codes."""

import os
import sys

import typer
from typer.exceptions import TyperException

from searcher.cli import (
    agent,
    build,
    campaigns,
    cancel,
    compare,
    complexity,
    device,
    devices,
    doctor,
    front,
    ledger,
    measure,
    pause,
    profiles,
    report,
    resume,
    run,
    serve,
    show,
    status,
    strategies,
    submit,
    tasks,
    token,
    upload,
)
from searcher.errors import FleetfrontError

app = typer.Typer(
    name="fleetfront", no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    help="Search for compressed versions of a vision model. Every candidate is measured on the "
         "real device; the result is a Pareto front of quality, latency, energy and file size.",
)
for module in (
    run, serve, submit, campaigns, status, pause, resume, cancel, agent, front, show, compare,
    measure, upload, build, complexity, strategies, profiles, report, devices, doctor,
):
    app.command(
        name=module.__name__.rpartition(".")[2],
        context_settings=getattr(module, "SETTINGS", None),
    )(module.command)
for group in (tasks, device, token, ledger):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])

INTERRUPTED = 130


def main() -> None:
    """Exit code 0: success. 1: the user can correct the error (also wrong usage). 2: a defect of
    fleetfront."""
    try:
        # Typer returns the code of a typer.Exit and prints wrong usage itself.
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("Stopped. Run the same command again to continue.", err=True)
        sys.exit(INTERRUPTED)
    except TyperException as error:
        typer.echo(f"error: {error.format_message()}", err=True)
        sys.exit(1)
    except (FleetfrontError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("FLEETFRONT_DEBUG"):
            raise
        typer.echo(f"This is a defect of fleetfront: {type(error).__name__}: {error}\n"
                   "Run again with FLEETFRONT_DEBUG=1 for the traceback and report it.", err=True)
        sys.exit(2)
