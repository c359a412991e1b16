"""``python3 -m agents`` or ``python3 agent.pyz``: the fleetfront agent of one device."""

import argparse
import functools
import logging
import os
import signal
import socket
import sys
import threading
from typing import Any, List, Optional

DEFAULT_SPOOL = os.path.join("~", ".fleetfront-agent")
GRACE_S = 10.0


def main(argv: Optional[List[str]] = None) -> int:
    """Returns 0, or raises SystemExit: 1 the user can mend it, and is told how; 2 a defect of ours.

    The exception, not the value, because a zipapp drops what its entry point returns.
    """
    code = _main(sys.argv[1:] if argv is None else argv)
    if code:
        sys.exit(code)
    return 0


def _main(words: List[str]) -> int:
    options = _parser().parse_args(words)
    if options.child:
        from agents.runtimes.child import main as child_main
        return child_main({"ort": "onnxruntime"}.get(options.child, options.child),
                          options.parent_pid or os.getppid())
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="agent: %(message)s")
    if options.doctor:
        from agents.doctor import report
        return report(options.runtime_python, sys.stdout)
    return _agent(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent", description="Measures models on this device for a fleetfront coordinator.")
    parser.add_argument("--coordinator", metavar="URL", help="http://HOST:PORT of the coordinator")
    parser.add_argument("--token", help="one-time enrolment token; needed for the first start only")
    parser.add_argument("--token-file", metavar="FILE", help="read the token from a file")
    parser.add_argument("--name", default=socket.gethostname(),
                        help="name of the device (default: its host name)")
    parser.add_argument("--spool", metavar="DIR", default=DEFAULT_SPOOL,
                        help="folder for the secret, results to send and models "
                             "(default: {}/NAME)".format(DEFAULT_SPOOL))
    parser.add_argument("--once", action="store_true", help="do one job and end")
    parser.add_argument("--parent-pid", type=int, metavar="PID", help="end when this process ends")
    parser.add_argument("--runtime", action="append", choices=["onnxruntime", "fake"],
                        help="offer this runtime only; may be repeated (default: onnxruntime)")
    parser.add_argument("--runtime-python", metavar="PYTHON", default=sys.executable,
                        help="interpreter that has the runtime (default: this one)")
    parser.add_argument("--cafile", metavar="PEM", help="certificate authority of the coordinator")
    parser.add_argument("--grace-s", type=float, default=GRACE_S, metavar="S",
                        help="time for the job at hand after SIGTERM (default: %(default)s)")
    parser.add_argument("--doctor", action="store_true",
                        help="say what works on this device, and how to mend what does not")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def _agent(options: argparse.Namespace) -> int:
    from agents.children import ProcessChild
    from agents.client import Agent, AgentError, Settings
    from agents.doctor import capabilities
    from agents.files import SpoolInUse, lock_folder

    try:
        if not options.coordinator:
            raise AgentError("--coordinator is missing: give the coordinator's URL, for example "
                             "http://192.168.1.2:8700.")
        spool = _spool(options)
        unlock = lock_folder(spool)
        settings = Settings(options.coordinator.rstrip("/"), options.name, spool, _token(options),
                            options.cafile, options.once)
        agent = Agent(settings, capabilities(options.runtime or ["onnxruntime"],
                                             options.runtime_python),
                      functools.partial(ProcessChild, python=options.runtime_python))
        _end_when_told(agent, options)
        agent.run()
        unlock()
    except (AgentError, SpoolInUse, ValueError, OSError) as error:
        logging.getLogger("fleetfront.agent").error("%s", error)
        return 1
    return 0


def _token(options: argparse.Namespace) -> Optional[str]:
    if options.token_file:
        with open(options.token_file, encoding="utf-8") as stream:
            return stream.read().strip()
    token: Optional[str] = options.token
    return token


def _spool(options: argparse.Namespace) -> str:
    folder: str = options.spool
    if folder == DEFAULT_SPOOL:
        folder = os.path.join(folder, options.name)
    folder = os.path.abspath(os.path.expanduser(folder))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def _end_when_told(agent: Any, options: argparse.Namespace) -> None:
    """First SIGTERM or Ctrl-C: finish the job within the grace; second: leave it. A parent that
    is gone: end at once, the children end with us."""
    from agents.lifeline import end_with

    def told(*_: object) -> None:
        if agent.finish.is_set():
            agent.abandon.set()
        agent.finish.set()
        agent.wake()
        timer = threading.Timer(options.grace_s, agent.abandon.set)
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGINT, told)
    if options.parent_pid:
        end_with(options.parent_pid, lambda: os._exit(0))


if __name__ == "__main__":
    sys.exit(main())
