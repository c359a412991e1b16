"""A builder process: lease a job, build or evaluate, put the result; ends with its parent.

    lease --> compress | train | evaluate | inspect --> artifact (write, fsync, rename) --> result
      ^                                                                             |
      +-----------------------------------------------------------------------------+
"""

import argparse
import contextlib
import errno
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from agents.protocol import Lease
from searcher.builders.work import Workshop
from searcher.client.http import CoordinatorClient
from searcher.errors import BuildError, FleetfrontError, ProtocolError, TaskError
from searcher.jobs import registry
from searcher.tasks.datasets.pinned_files import UPLOADED
from searcher.workers.gate import PauseGate
from searcher.workers.parent_death import die_with_parent


def execute(workshop: Workshop, lease: Lease) -> dict[str, object]:
    """The result of a leased job, by the function that its kind names."""
    kind = registry.named(lease.kind)
    module, _, name = kind.execution.partition(":")
    found: dict[str, object] = getattr(importlib.import_module(module), name)(
        workshop, kind.parse(lease.payload))
    return found


def work(client: CoordinatorClient, workshop: Workshop, lease: Lease) -> None:
    """One leased job to its result: a candidate that fails never ends the builder."""
    try:
        result = execute(workshop, lease)
    except BuildError as error:
        client.put_failed(lease, error.reason, str(error))
    except TaskError as error:
        client.put_failed(lease, "task", str(error))
    except FleetfrontError as error:
        client.put_failed(lease, "user", str(error))
    except OSError as error:
        client.put_failed(lease, *_disk(error))
    except Exception as error:  # noqa: BLE001  process boundary: the campaign continues without it
        notes = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
        client.put_failed(lease, "build", f"{notes}{type(error).__name__}: {error}")
    else:
        client.put_done(lease, result)


def _disk(error: OSError) -> tuple[str, str]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full", f"{error}. Free space on this disk, then run the same command again."
    return "io", f"{error}."


def _end_process() -> None:
    os._exit(3)


def beat(client: CoordinatorClient, lease: Lease, ended: threading.Event,
         lost: Callable[[], object] = _end_process) -> None:
    """Keep the lease alive until ``ended``. ``lost`` is called when it is lost: the job is another
    builder's by then, and computing it further is waste."""
    while not ended.wait(lease.ttl_s / 4):
        try:
            client.heartbeat(lease)
        except ProtocolError:
            lost()
            return
        except FleetfrontError as error:
            logging.getLogger(__name__).warning("no heartbeat: %s", error)


def serve(url: str, token: str, folder: Path, fingerprint: str | None = None,
          gate: PauseGate | None = None) -> None:
    """Lease and work until killed; in a thread, until ``gate`` ends it between two jobs, by
    raising Stopped. A lost lease ends the process, but not that of a thread: its result is refused
    when the job is done."""
    lost = _end_process if gate is None else bool
    idle = contextlib.nullcontext if gate is None else gate.idle
    os.environ[UPLOADED] = str(folder / "artifacts")
    workshop = Workshop(folder)
    with CoordinatorClient(url, token, fingerprint=fingerprint) as client, \
            CoordinatorClient(url, token, fingerprint=fingerprint) as pulse:
        while True:
            with idle():
                lease = client.lease(wait_s=20.0)
            if lease is None:
                continue
            ended = threading.Event()
            beats = threading.Thread(target=beat, args=(pulse, lease, ended, lost), daemon=True)
            beats.start()
            try:
                work(client, workshop, lease)
            except ProtocolError as error:
                logging.getLogger(__name__).warning("result refused: %s", error)
            finally:
                ended.set()
                beats.join()


def main() -> None:
    """``python -m searcher.builders.process --url URL --dir DIR``, its secret on stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--fingerprint", help="of the coordinator's certificate, if it has one")
    arguments = parser.parse_args()
    die_with_parent(arguments.parent_pid)
    serve(arguments.url, sys.stdin.readline().strip(), arguments.dir, arguments.fingerprint)


if __name__ == "__main__":
    main()
