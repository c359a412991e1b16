"""Third-party runtimes and meters, found by the entry points of installed distributions.

Entry points need ``importlib.metadata``, which Python has from 3.8 on; older versions find none.
Scanning takes tens of milliseconds, so a caller scans only for a name that is not built in.
"""

from importlib import import_module
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

RUNTIME_GROUP = "fleetfront.runtimes"
METER_GROUP = "fleetfront.meters"


class Extension(NamedTuple):
    """One entry point: its name, where it points to (``package.module:object``), and the loaded
    object. ``problem`` is why it cannot be used and what to do, or empty."""

    name: str
    target: str
    value: object
    problem: str = ""


def load_extensions(group: str) -> List[Extension]:
    """Loads every entry point of ``group``, ordered by name. Does not raise: an entry point that
    cannot be loaded has a ``problem``."""
    found: Dict[Tuple[str, str], Any] = {}
    for name, target, entry_point in _entry_points(group):
        # A distribution that lies on two folders of sys.path is listed twice.
        found.setdefault((name, target), entry_point)
    return [_loaded(name, target, entry_point)
            for (name, target), entry_point in sorted(found.items(), key=lambda item: item[0])]


def refused(extension: Extension, reason: str) -> Extension:
    """The extension without its object, and with the ``reason`` and a remedy as its problem."""
    return extension._replace(value=None, problem=(
        "the entry point {!r} ({}) {}: repair, upgrade or uninstall the package that installs it"
        .format(extension.name, extension.target, reason)))


def _loaded(name: str, target: str, entry_point: Any) -> Extension:
    try:
        return Extension(name, target, entry_point.load())
    except Exception as error:  # noqa: BLE001 - the import of a third party's package
        return refused(Extension(name, target, None), "cannot be loaded ({}: {})".format(
            type(error).__name__, " ".join(str(error).split())[:200]))


def _entry_points(group: str) -> Iterator[Any]:
    """(name, target, entry point) of each; distributions with unreadable metadata are skipped."""
    try:
        metadata: Any = import_module("importlib.metadata")
    except ImportError:
        return
    for distribution in metadata.distributions():
        try:
            entry_points = list(distribution.entry_points)
        except Exception:  # noqa: BLE001 - whatever a malformed entry_points.txt raises
            continue
        for entry_point in entry_points:
            if entry_point.group == group:
                yield entry_point.name, entry_point.value, entry_point
