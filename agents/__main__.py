"""Command line of the agent: ``python3 agent.pyz`` or ``python3 -m agents``."""

import argparse
import functools
import logging
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.coordinator.settings import AgentSettings
    from agents.protocol import JsonObject

DEFAULT_SPOOL = os.path.join("~", ".fleetfront-agent")
GRACE_S = 10.0
HELP_COLUMNS = 96
TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the agent; returns 0.

    Raises SystemExit with the code 1 for a fault that the user can correct, and 2 for a defect of
    the agent. An exception, because a zipapp discards the return value of its entry point.
    """
    code = _main(sys.argv[1:] if argv is None else argv)
    if code:
        sys.exit(code)
    return 0


def _main(words: List[str]) -> int:
    options = _parser().parse_args(words)
    if options.child:
        from agents.child.program import main as child_main
        return child_main(options.child, options.parent_pid or os.getppid())
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="agent: %(message)s")
    if options.version:
        return _version()
    if options.doctor:
        from agents.doctor import report
        return report(options, _spool_path(options), sys.stdout)
    return _agent(options, words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent", description="Measures models on this device for a fleetfront coordinator.",
        # Without a width argparse imports shutil, which imports every compression module.
        formatter_class=functools.partial(argparse.HelpFormatter, width=HELP_COLUMNS))
    parser.add_argument("--coordinator", metavar="URL",
                        help="http:// or https://HOST:PORT of the coordinator")
    parser.add_argument("--token", help="one-time enrolment token, for the first start")
    parser.add_argument("--token-file", metavar="FILE", help="read the token from a file")
    parser.add_argument("--name", default=socket.gethostname(),
                        help="name of the device (default: its host name)")
    parser.add_argument("--spool", metavar="DIR", default=DEFAULT_SPOOL,
                        help="folder for the secret, results to send and models "
                             "(default: {}/NAME)".format(DEFAULT_SPOOL))
    parser.add_argument("--once", action="store_true", help="do one job and exit")
    parser.add_argument("--parent-pid", type=int, metavar="PID", help="exit when this process ends")
    parser.add_argument("--runtime", action="append", metavar="NAME",
                        help="offer this runtime only, such as onnxruntime or trtexec; may be "
                             "repeated (default: onnxruntime)")
    parser.add_argument("--runtime-python", metavar="PYTHON", default=sys.executable,
                        help="interpreter that has the runtime (default: this one)")
    parser.add_argument("--cafile", metavar="PEM", help="certificate authority of the coordinator")
    parser.add_argument("--fingerprint", metavar="sha256:HEX",
                        help="trust only this certificate of the coordinator; it is stored, so "
                             "that later starts do not need the option")
    parser.add_argument("--grace-s", type=float, default=GRACE_S, metavar="S",
                        help="time for the job at hand after SIGTERM (default: %(default)s)")
    parser.add_argument("--doctor", action="store_true",
                        help="report what works on this device, and how to repair what does not")
    parser.add_argument("--version", action="store_true",
                        help="print the protocol version and this file's sha256")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def _version() -> int:
    """Prints the version. Imports the agent's modules first, so that a damaged file fails."""
    from importlib import import_module

    from agents.coordinator.update import AgentFile
    from agents.platform.own_program import own_archive
    from agents.protocol import PROTOCOL_VERSION

    for name in ("capabilities", "agent", "coordinator.enrolment", "jobs.execution"):
        import_module("agents." + name)
    sys.stdout.write("fleetfront agent: protocol {}, Python {}.{}.{}, {}\n".format(
        PROTOCOL_VERSION, *sys.version_info[:3], AgentFile(own_archive())))
    return 0


def _import_http_without_ssl() -> None:
    """Imports ``http.client`` without ``ssl``, which it needs only for its own HTTPS connection.
    The agent has another (``tls.py``); ``ssl`` costs tens of milliseconds and a megabyte."""
    if "ssl" not in sys.modules:
        modules: Dict[str, Any] = sys.modules
        modules["ssl"] = None  # makes its import fail
        try:
            import http.client  # noqa: F401
        finally:
            del modules["ssl"]


def _agent(options: argparse.Namespace, words: List[str]) -> int:
    _import_http_without_ssl()
    from agents.agent import Agent
    from agents.coordinator.settings import AgentError
    from agents.coordinator.update import AgentFile, Updated, inherited_lock, restart
    from agents.measurement.spare_child import SpareChild
    from agents.platform.files import SpoolInUse, lock_folder
    from agents.platform.own_program import own_archive

    archive = own_archive()
    try:
        agent_file = AgentFile(archive)
        settings = settings_of(options)
        lock = lock_folder(settings.spool, inherited_lock())
        spare = SpareChild(options.runtime_python)
        agent = Agent(settings, functools.partial(_capabilities, options), spare.start,
                      agent_file=agent_file, spare=spare)
        _install_signal_handlers(agent, options)
        try:
            agent.run()
        except Updated:
            # Signals from here on wait for the handlers of the new program.
            signal.pthread_sigmask(signal.SIG_BLOCK, TERMINATION_SIGNALS)
            if not agent.finish.is_set():
                restart(str(archive), words, lock.keep_over_exec())
        lock.release()
    except (AgentError, SpoolInUse, ValueError, OSError) as error:
        logging.getLogger("fleetfront.agent").error("%s", error)
        return 1
    return 0


def settings_of(options: argparse.Namespace) -> "AgentSettings":
    """The settings that the options describe. Raises AgentError, ValueError and OSError."""
    from agents.coordinator.http import Trust, parse_fingerprint
    from agents.coordinator.settings import AgentError, AgentSettings

    if not options.coordinator:
        raise AgentError("--coordinator is missing: give the coordinator's URL, for example "
                         "http://192.168.1.2:8700.")
    python = options.runtime_python
    if os.sep in python and not os.access(python, os.X_OK):
        raise AgentError("--runtime-python {!r} is not executable: give the path of a Python "
                         "interpreter that has the runtime.".format(python))
    fingerprint = parse_fingerprint(options.fingerprint) if options.fingerprint else None
    spool = _spool_path(options)
    os.makedirs(spool, mode=0o700, exist_ok=True)
    return AgentSettings(
        options.coordinator.rstrip("/"), options.name, spool, _token(options, spool),
        Trust(options.cafile, fingerprint), options.once, _runtimes(options))


def _capabilities(options: argparse.Namespace) -> "JsonObject":
    from agents.capabilities import capabilities
    return capabilities(list(_runtimes(options)), options.runtime_python).as_json()


def _runtimes(options: argparse.Namespace) -> Tuple[str, ...]:
    """Names of the runtimes to offer. Raises AgentError for an unknown name, unless the runtimes
    have an interpreter of their own, which may have others installed."""
    from agents.coordinator.settings import AgentError
    from agents.protocol import DEFAULT_RUNTIME, RUNTIMES

    names = tuple(options.runtime or [DEFAULT_RUNTIME])
    unknown = [name for name in names if name not in RUNTIMES]
    if unknown and options.runtime_python == sys.executable:
        raise AgentError("--runtime {} is unknown: give one of {}.".format(
            unknown[0], ", ".join(RUNTIMES)))
    return names


def _token(options: argparse.Namespace, spool: str) -> Optional[str]:
    """The one-time token. A missing token file is an error only before the first enrolment."""
    from agents.coordinator.spool import read_secret

    token: Optional[str] = options.token
    if options.token_file:
        try:
            with open(options.token_file, encoding="utf-8") as stream:
                token = stream.read().strip()
        except FileNotFoundError:
            if read_secret(spool) is None:
                raise
    return token


def _spool_path(options: argparse.Namespace) -> str:
    folder: str = options.spool
    if folder == DEFAULT_SPOOL:
        folder = os.path.join(folder, options.name)
    return os.path.abspath(os.path.expanduser(folder))


def _install_signal_handlers(agent: "Agent", options: argparse.Namespace) -> None:
    """First SIGTERM or Ctrl-C: finish the job within the grace time. Second: abandon it. End of
    the parent: exit at once; the agent's children exit too."""
    def on_signal(*_: object) -> None:
        if agent.finish.is_set():
            agent.abandon.set()
        agent.finish.set()
        agent.wake()
        timer = threading.Timer(options.grace_s, agent.abandon.set)
        timer.daemon = True
        timer.start()

    for number in TERMINATION_SIGNALS:
        signal.signal(number, on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINATION_SIGNALS)
    if options.parent_pid:
        from agents.platform.parent_death import call_when_parent_ends
        call_when_parent_ends(options.parent_pid, lambda: os._exit(0))


if __name__ == "__main__":
    sys.exit(main())
