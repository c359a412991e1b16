"""``fleetfront agent``: run the program of a device, ``agent.pyz``, from this installation."""

import hashlib
import os
import sys
from pathlib import Path

import typer

SETTINGS = {"ignore_unknown_options": True, "allow_extra_args": True}


def command(context: typer.Context) -> None:
    """Run the agent, so that this machine is a device. All further arguments are passed to the
    agent, which replaces this process; `fleetfront agent -- --help` lists its options."""
    archive = archive_in(_cache())
    os.execv(sys.executable, [sys.executable, str(archive), *context.args])


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fleetfront"


def archive_in(folder: Path) -> Path:
    """Write the agent of this version as one file into a folder of the user."""
    from searcher.local.process_tree import build_agent

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f"draft-{os.getpid()}.pyz"
    build_agent(draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    # A running agent reads from its file until it ends, so the file must not be replaced.
    return draft.replace(folder / f"agent-{digest[:16]}.pyz")
