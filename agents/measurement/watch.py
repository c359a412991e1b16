"""Monitors the device: it cools down before, then clocks and temperatures are read periodically.

    wait until cool (bounded) | child ..... the parent reads every LOOK_S ..... | observations
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from agents.platform.environment import MachineState, temperatures
from agents.platform.sysfs import SystemTree
from agents.protocol import UNKNOWN, MeasurePlan, PowerMode, ProfileFacts

LOOK_S = 0.2
COOLING_LOOK_S = 1.0
MOST_CLOCKS = 16
"""Most clocks that are read: reading one may wake its core, and servers have hundreds."""
CLOCKS = ("/sys/devices/system/cpu/cpufreq/policy[0-9]*/scaling_cur_freq",
          "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
LIMITS = tuple(path.replace("_cur_", "_max_") for path in CLOCKS)
GPU_CLOCKS = ("/sys/devices/*/devfreq/*/cur_freq", "/sys/class/devfreq/*/cur_freq")
LIKE = 0.03
"""Relative tolerance between a clock limit and that of a power mode, which is rounded."""


class DeviceObservations(NamedTuple):
    """``clocks_khz`` are readings of the fastest core's clock, ``gpu_khz`` of the GPU's.
    ``hottest_c`` is the highest temperature of any zone, None without a sensor."""

    clocks_khz: List[int]
    hottest_c: Optional[float] = None
    gpu_khz: Sequence[int] = ()


class DeviceMonitor:
    """Call it often; it reads the device at most every ``LOOK_S``."""

    def __init__(self, tree: SystemTree, clock: Callable[[], float],
                 profile: ProfileFacts = UNKNOWN) -> None:
        self._tree, self._clock = tree, clock
        self._ignored_zones = profile.ignored_zones
        # Only a file found here is opened, never an arbitrary path from the coordinator.
        known = [path for pattern in GPU_CLOCKS for path in tree.paths(pattern)]
        self._gpu_clock = profile.gpu_clock if profile.gpu_clock in known else None
        self._paths = next((found for found in map(tree.paths, CLOCKS) if found), [])[:MOST_CLOCKS]
        self._due_s = clock()
        self._clocks_khz: List[int] = []
        self._gpu_khz: List[int] = []
        self._hottest_c: List[float] = []

    def __call__(self, working: bool = True) -> None:
        """Reads temperatures, and clocks while the device is ``working``: a governor lowers the
        clocks of an idle device."""
        now_s = self._clock()
        if now_s < self._due_s:
            return
        self._due_s = now_s + LOOK_S
        self._hottest_c.extend(temperatures(self._tree, self._ignored_zones).values())
        if not working:
            return
        clocks = [self._tree.integer(path) for path in self._paths]
        known = [clock for clock in clocks if clock is not None]
        if known:
            self._clocks_khz.append(max(known))
        gpu_hz = self._tree.integer(self._gpu_clock) if self._gpu_clock else None
        if gpu_hz is not None:
            self._gpu_khz.append(gpu_hz // 1000)

    def observations(self) -> DeviceObservations:
        return DeviceObservations(self._clocks_khz,
                                  max(self._hottest_c) if self._hottest_c else None,
                    self._gpu_khz)


class CoolDown(NamedTuple):
    """``hottest_c`` is the temperature after ``waited_s``, None without a sensor."""

    waited_s: float
    hottest_c: Optional[float]
    limit_c: float

    def enough(self) -> bool:
        """Whether the device is below the limit, or has no limit or sensor."""
        return self.limit_c <= 0 or self.hottest_c is None or self.hottest_c <= self.limit_c


def cool_down(tree: SystemTree, plan: MeasurePlan, clock: Callable[[], float],
              wait: Callable[[float], object], stop: Callable[[], bool],
              ignored_zones: Sequence[str] = ()) -> CoolDown:
    """Waits until every zone is below the plan's limit, at most ``plan.cool_down_s``."""
    started_s = clock()
    while True:
        zones: Dict[str, float] = (
            temperatures(tree, ignored_zones) if plan.start_below_c > 0 else {})
        waited_s = clock() - started_s
        cooled = CoolDown(waited_s, max(zones.values()) if zones else None, plan.start_below_c)
        if cooled.enough() or waited_s >= plan.cool_down_s or stop():
            return cooled
        wait(min(COOLING_LOOK_S, plan.cool_down_s - waited_s))


def power_mode(tree: SystemTree, state: MachineState, modes: Sequence[PowerMode]) -> Optional[
        PowerMode]:
    """The power mode of the device: the one that nvpmodel has set, or without nvpmodel the only one
    that fits the clock limit of the fastest core. None if the limit fits no mode of the profile.
    Call it while the device is cool, because heat lowers the limit."""
    mode_id = state.power_mode
    paths = next((found for found in map(tree.paths, LIMITS) if found), [])[:MOST_CLOCKS]
    limit_khz = max([tree.integer(path) or 0 for path in paths], default=0)
    fitting = []
    for mode in modes:
        if mode.cpu_khz is None or limit_khz == 0:
            fits = mode_id is not None
        else:
            fits = abs(mode.cpu_khz - limit_khz) <= LIKE * limit_khz
        if fits and mode_id in (None, mode.id):
            fitting.append(mode)
    return fitting[0] if len(fitting) == 1 else None
