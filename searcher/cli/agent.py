"""``fleetfront agent``: the program of a device, ``agent.pyz``, run from here."""

import hashlib
import os
import sys
from pathlib import Path

import typer

SETTINGS = {"ignore_unknown_options": True, "allow_extra_args": True}


def command(context: typer.Context) -> None:
    """Take part as a device. Everything that follows goes to the agent, which takes the place of
    this process: `fleetfront agent -- --help` tells its options."""
    archive = archive_in(_cache())
    os.execv(sys.executable, [sys.executable, str(archive), *context.args])


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fleetfront"


def archive_in(folder: Path) -> Path:
    """The agent of this version as one file, in a folder of the user's own."""
    from searcher.local.process_tree import build_agent

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f"draft-{os.getpid()}.pyz"
    build_agent(draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    # An agent that runs reads from its file for as long as it lives: no other takes its place.
    return draft.replace(folder / f"agent-{digest[:16]}.pyz")
