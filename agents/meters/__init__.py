"""Meters: what a device can tell of itself beside time. ``METERS`` names them all."""

from typing import Tuple, Type

from agents.meters.base import Meter
from agents.meters.memory import MemoryMeter
from agents.meters.nvml import NvmlMeter

METERS: Tuple[Type[Meter], ...] = (MemoryMeter, NvmlMeter)
