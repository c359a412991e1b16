"""All meters. Apart from the package, so that a measuring child loads the one it needs only."""

from typing import List, Tuple, Type

from agents.meters.base import Meter, PowerMeter
from agents.meters.battery import BatteryMeter, OdpmMeter
from agents.meters.ina3221 import Ina3221Meter
from agents.meters.jtop import JtopMeter
from agents.meters.memory import MemoryMeter
from agents.meters.nvml import NvmlMeter
from agents.meters.rapl import RaplMeter

METERS: Tuple[Type[Meter], ...] = (
    MemoryMeter, Ina3221Meter, JtopMeter, NvmlMeter, RaplMeter, BatteryMeter, OdpmMeter)


def power_meters() -> List[PowerMeter]:
    """One of each that tells power or energy; those with a problem too."""
    made = [kind() for kind in METERS]
    return [meter for meter in made if isinstance(meter, PowerMeter)]
