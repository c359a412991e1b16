"""Power of Jetson boards from jetson-stats, for boards whose sysfs is used by another program.

Optional (``fleetfront[jetson]``). It is licensed under AGPL-3.0, therefore never required, and
imported only here. Its service measures once per interval, by default a second, so that windows
must be long. Its ``avg`` is not a mean over time, and its total may count rails twice; neither is
used. The rails have the roles of ``ina3221.py``.
"""

from importlib import import_module
from typing import Any, Callable, Dict, List, Optional, Sequence

from agents.meters.base import MeterReading, PowerMeter
from agents.meters.ina3221 import roles_of
from agents.protocol import Rail

NAN = float("nan")


class JtopMeter(PowerMeter):
    """All rails of jetson-stats 4 or newer. ``load`` imports the package."""

    name = "jtop"

    def __init__(self, load: Callable[[], Any] = lambda: import_module("jtop")) -> None:
        self._load = load
        self._client: Any = None
        self._labels: List[str] = []

    def problem(self) -> Optional[str]:
        if self._client is not None:
            return None
        try:
            package = self._load()
        except ImportError as error:
            return ("jetson-stats is not installed ({}): it is optional, and ina3221 reads the "
                    "same rails without it".format(error))
        try:
            client = package.jtop()
            client.start()
        except package.JtopException as error:
            return "the service of jetson-stats does not answer: {}".format(
                " ".join(str(error).split()))
        except OSError as error:
            return "the socket of jetson-stats cannot be opened: {}".format(error)
        self._client = client
        self._labels = sorted(self._rails_now())
        if not self._labels:
            self.close()
            return "jetson-stats knows no power rail of this board"
        return None

    def remedy(self) -> str:
        return "sudo systemctl restart jtop.service && sudo usermod -aG jtop $USER"

    def readings(self) -> List[MeterReading]:
        return [MeterReading(label + "_mw", value, "mW", "jtop.power rail " + label)
                for label, value in zip(self._labels, self.rail_values())]

    def rail_values(self) -> Sequence[float]:
        now = self._rails_now()
        return [now.get(label, NAN) for label in self._labels]

    def rails(self) -> List[Rail]:
        roles = roles_of(self._labels)
        return [Rail(label + "_mw", "mW", "jtop.power rail " + label,
                     "other" if roles[label] == "part" else "board", roles[label],
                     "read once in the interval of the service", float(self._client.interval))
                for label in self._labels]

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client, self._labels = None, []

    def _rails_now(self) -> Dict[str, float]:
        """Milliwatts by label of the rails that are online; NAN for a rail without a value."""
        found = self._client.power.get("rail", {})
        powers = {label: rail.get("power") for label, rail in found.items()
                  if rail.get("online", True)}
        return {label: NAN if power is None else float(power)
                for label, power in powers.items()}
