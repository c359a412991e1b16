"""All meters: the built-in classes, and those that third parties register.

A third party registers a subclass of ``Meter`` by the entry point group ``fleetfront.meters``,
under the meter's name. Apart from the package, because a measuring child loads one meter only.
"""

from typing import Dict, List, NamedTuple, Optional, Set, Tuple, Type

from agents.meters.base import Meter, PowerMeter
from agents.meters.battery import BatteryMeter, OdpmMeter
from agents.meters.ina3221 import Ina3221Meter
from agents.meters.jtop import JtopMeter
from agents.meters.memory import MemoryMeter
from agents.meters.nvml import NvmlMeter
from agents.meters.rapl import RaplMeter
from agents.protocol.extensions import METER_GROUP, Extension, load_extensions, refused

METERS: Tuple[Type[Meter], ...] = (
    MemoryMeter, Ina3221Meter, JtopMeter, NvmlMeter, RaplMeter, BatteryMeter, OdpmMeter)
"""The built-in meters, one row each."""


class Meters(NamedTuple):
    """``meters`` are new instances, those with a problem too; ``broken`` maps the name of each
    entry point that cannot be used to cause and remedy."""

    meters: List[Meter]
    broken: Dict[str, str]

    def power_meters(self) -> List[PowerMeter]:
        """Those whose readings include a power or a counter of energy."""
        return [meter for meter in self.meters if isinstance(meter, PowerMeter)]


class MeterRegistry:
    """The built-in classes and the registered ones, which are looked up once."""

    def __init__(self, built_in: Tuple[Type[Meter], ...] = METERS) -> None:
        self._built_in = built_in
        self._extensions: Optional[List[Extension]] = None

    def create(self) -> Meters:
        """One new instance of each meter. Does not raise."""
        if self._extensions is None:
            self._extensions = load_extensions(METER_GROUP)
        found = Meters([kind() for kind in self._built_in], {})
        for extension in self._extensions:
            known = {meter.name for meter in found.meters}
            created = extension if extension.problem else _created(extension, known)
            if isinstance(created.value, Meter):
                found.meters.append(created.value)
            else:
                found.broken[created.name] = created.problem
        return found


REGISTRY = MeterRegistry()


def create_meters() -> Meters:
    """One new instance of each meter on this device. Does not raise."""
    return REGISTRY.create()


def power_meters() -> List[PowerMeter]:
    """One new instance of each meter of power or energy, those with a problem too."""
    return create_meters().power_meters()


def _created(extension: Extension, known: Set[str]) -> Extension:
    """The extension with an instance of its class as value, or with a problem."""
    kind = extension.value
    if not isinstance(kind, type) or not issubclass(kind, Meter):
        return refused(extension, "loads {!r}, not a subclass of agents.meters.base.Meter".format(
            kind))
    if kind.name != extension.name:
        return refused(extension, "loads a meter named {!r}".format(kind.name))
    if kind.name in known:
        return refused(extension, "names a meter that exists already")
    try:
        return extension._replace(value=kind())
    except Exception as error:  # noqa: BLE001 - the constructor of a third party's class
        return refused(extension, "cannot be created without arguments ({}: {})".format(
            type(error).__name__, error))
