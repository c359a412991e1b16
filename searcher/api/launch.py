"""Starting a coordinator as a child process that ends with its parent."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from searcher.client import CoordinatorClient, connect
from searcher.errors import FleetfrontError, UserError


@dataclass(frozen=True)
class Launched:
    """A coordinator that serves, and a client in the operator's role."""

    process: subprocess.Popen[bytes]
    client: CoordinatorClient

    def stop(self, within_s: float = 15.0) -> int:
        """Ask it to end, then make it; its exit code."""
        self.client.close()
        self.process.terminate()
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def launch(folder: Path, *, builders: int = 1, arguments: Sequence[str] = ()) -> Launched:
    """Start a coordinator on a free loopback port; returns when it serves.

    Call from a thread that lives as long as the coordinator shall (the main one). Its log is
    ``logs/coordinator.log``. Raises UserError when the folder has an owner, FleetfrontError when
    it ends before it serves; both carry what it said.
    """
    logs = folder / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be used: {error}. Choose another --dir.") \
            from error
    reading, writing = os.pipe()
    path = logs / "coordinator.log"
    with open(path, "ab") as log:
        begun = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "searcher.api.server", "--dir", str(folder),
             "--builders", str(builders), "--parent-pid", str(os.getpid()),
             "--ready-fd", str(writing), *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    with os.fdopen(reading, "rb") as ready:
        address = ready.readline()
    if address:
        return Launched(process, connect(folder))
    code = process.wait()
    said = path.read_bytes()[begun:].decode("utf-8", "replace").strip()[-2000:]
    kind = UserError if code == 1 else FleetfrontError
    raise kind(said or f"The coordinator ended with code {code} before it served; see {path}.")
