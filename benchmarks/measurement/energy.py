"""InferenceEnergy of synthetic rails with known integrals: within 1 %, or refused.

A meter with 10 Hz reads a load of known power above a known idle level: as instantaneous power that
changes slowly, as power averaged over the meter's period while the load jumps, or as a counter that
wraps. Polls are jittered and return whole units; some fail and some are late. Each kind is tested
with valid traces, most of which must give a result, and with faulty traces (a gap, a short window,
a constant reading, a counter reset), which must be refused or give a result within 1 %.
"""

import argparse
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.measurement.energy.integral import EnergyUnavailable
from agents.measurement.energy.per_inference import (
    InferenceEnergy,
    energy_per_inference,
)
from agents.measurement.energy.polling import PolledRail
from agents.protocol import Rail
from benchmarks.checks import Check, conclude, holds
from searcher.cli.options import print_table

UPDATE_S = 0.1
BEFORE, LOAD, AFTER = (1.5, 9.5), (11.0, 31.0), (32.5, 40.5)
END_S = 41.0
CALLS = 4000
WITHIN = 0.01
GIVEN = 0.95
WRAPS_UJ = 1.0e9
"""1 kJ: the counter wraps every 3 s to 5 min, far more often than real ones."""
IDLE_SWING, IDLE_PERIOD_S = 0.02, 1.7
"""Relative amplitude and period of the idle power."""


@dataclass(frozen=True)
class World:
    """True power: ``idle_w`` with a small oscillation; during the load also ``load_w``, which
    oscillates by ``swing`` with ``period_s``, as a sine or in steps (``jumps``)."""

    idle_w: float
    load_w: float
    swing: float
    period_s: float
    jumps: bool

    def idle_until(self, moment: float) -> float:
        phase = 2 * math.pi * moment / IDLE_PERIOD_S
        return self.idle_w * (
            moment + IDLE_SWING * IDLE_PERIOD_S / (2 * math.pi) * (1 - math.cos(phase)))

    def energy_until(self, moment: float) -> float:
        """Joules since 0 s, in closed form."""
        loaded_s = min(max(moment - LOAD[0] + 1.5, 0.0), LOAD[1] - LOAD[0] + 1.5)
        turns = loaded_s / self.period_s
        if self.jumps:
            part = turns - math.floor(turns)
            moved = self.swing * self.period_s * (part if part < 0.5 else 1 - part)
        else:
            moved = self.swing * self.period_s / (2 * math.pi) * (1 - math.cos(2 * math.pi * turns))
        return self.idle_until(moment) + self.load_w * (loaded_s + moved)

    def power(self, moment: float) -> float:
        step = 1e-6
        return (self.energy_until(moment + step) - self.energy_until(moment - step)) / (2 * step)


def drawn(source: random.Random, jumps: bool) -> World:
    period_s = source.uniform(0.003, 0.02) if jumps else source.uniform(3.0, 8.0)
    return World(source.uniform(1.0, 60.0), source.uniform(2.0, 200.0), source.uniform(0.05, 0.4),
                 period_s, jumps)


def averaged(world: World, moment: float) -> float:
    """Mean power over the meter's last period, in watts."""
    return (world.energy_until(moment) - world.energy_until(moment - UPDATE_S)) / UPDATE_S


KINDS: dict[str, tuple[Rail, bool, Callable[[World, float], float]]] = {
    "power, instant": (Rail("slow_mw", "mW", "synthetic", "board", "total", "instant"), False,
                       lambda world, moment: world.power(moment) * 1e3),
    "power, averaged": (Rail("fast_mw", "mW", "synthetic", "board", "total", "0.1 s", UPDATE_S),
                        True, lambda world, moment: averaged(world, moment) * 1e3),
    "counter": (Rail("counter_mj", "mJ", "synthetic", "board", "total", "counter"), True,
                lambda world, moment: world.energy_until(moment) * 1e3),
    "counter that wraps": (
        Rail("wraps_uj", "uJ", "synthetic", "board", "total", "counter", None, WRAPS_UJ), True,
        lambda world, moment: world.energy_until(moment) * 1e6 % WRAPS_UJ),
}


def polled(world: World, kind: str, source: random.Random) -> PolledRail:
    """The trace of 20 to 50 polls per second; 2 % of them fail, 1 % are up to 0.15 s late."""
    rail, _, figure = KINDS[kind]
    phase, period_s = source.random() * UPDATE_S, source.uniform(0.02, 0.05)
    times, values, now = [], [], 0.0
    while now < END_S:
        updated = max(math.floor((now - phase) / UPDATE_S) * UPDATE_S + phase, UPDATE_S)
        value = float(int(figure(world, updated)))
        times.append(now)
        values.append(math.nan if source.random() < 0.02 else value)
        late = source.uniform(0.0, 0.15) if source.random() < 0.01 else 0.0
        now += period_s * source.uniform(0.7, 1.3) + late
    return PolledRail("synthetic", rail, times, values)


def energy_or_refusal(trace: PolledRail,
                      load: tuple[float, float] = LOAD) -> InferenceEnergy | str:
    """The energy per inference, or the reason why it is refused."""
    try:
        return energy_per_inference([trace], "cpu", load, CALLS, BEFORE, AFTER)
    except EnergyUnavailable as error:
        return str(error)


def gap(trace: PolledRail, source: random.Random) -> PolledRail:
    """The trace without polls for 0.15 to 2 s of the load. The power is unknown there; a counter
    remains usable unless it may have wrapped."""
    start = source.uniform(LOAD[0] + 1.0, LOAD[1] - 6.0)
    end = start + source.uniform(0.15, 2.0)
    kept = [place for place, moment in enumerate(trace.times_s) if not start < moment < end]
    return trace._replace(times_s=[trace.times_s[place] for place in kept],
                          values=[trace.values[place] for place in kept])


def constant(trace: PolledRail, source: random.Random) -> PolledRail:
    """The trace with one constant reading for 2 to 5 s of the load."""
    start = source.uniform(LOAD[0] + 1.0, LOAD[1] - 6.0)
    end = start + source.uniform(2.0, 5.0)
    held = next(value for moment, value in zip(trace.times_s, trace.values, strict=True)
                if moment >= start and value == value)
    return trace._replace(values=[held if start <= moment < end else value for moment, value in
                                  zip(trace.times_s, trace.values, strict=True)])


def reset(trace: PolledRail, source: random.Random) -> PolledRail:
    """The trace of a counter that is reset to zero during the load."""
    moment = source.uniform(LOAD[0] + 2.0, LOAD[1] - 2.0)
    level = next(value for at, value in zip(trace.times_s, trace.values, strict=True)
                 if at >= moment and value == value)
    return trace._replace(values=[value - level if at >= moment else value for at, value in
                                  zip(trace.times_s, trace.values, strict=True)])


BROKEN: dict[str, Callable[[PolledRail, random.Random], PolledRail]] = {"gap": gap,
                                                                        "stands still": constant}


def errors_of(kind: str, trials: int, seed: int) -> tuple[list[float], list[float], int]:
    """Relative errors of gross and net energy of valid traces, and the number of refusals."""
    gross, net, refused = [], [], 0
    for trial in range(trials):
        source = random.Random(f"{kind} {seed} {trial}")
        world = drawn(source, KINDS[kind][1])
        found = energy_or_refusal(polled(world, kind, source))
        if isinstance(found, str) or found.net_j is None:
            refused += 1
            continue
        true_j = (world.energy_until(LOAD[1]) - world.energy_until(LOAD[0])) / CALLS
        idle_j = (world.idle_until(LOAD[1]) - world.idle_until(LOAD[0])) / CALLS
        gross.append(abs(found.gross_j / true_j - 1))
        net.append(abs(found.net_j - (true_j - idle_j)) / true_j)
    return gross, net, refused


def broken_answers(kind: str, trials: int, seed: int) -> dict[str, tuple[int, int, float]]:
    """Fault -> (number of refusals, number of results, largest relative error of the results)."""
    faults = dict(BROKEN, **({"reset": reset} if kind == "counter" else {}))
    found: dict[str, tuple[int, int, float]] = {}
    for fault, broken in faults.items():
        refused, worst, answered = 0, 0.0, 0
        for trial in range(trials):
            source = random.Random(f"{kind} {fault} {seed} {trial}")
            world = drawn(source, KINDS[kind][1])
            answer = energy_or_refusal(broken(polled(world, kind, source), source))
            if isinstance(answer, str):
                refused += 1
                continue
            true_j = (world.energy_until(LOAD[1]) - world.energy_until(LOAD[0])) / CALLS
            answered, worst = answered + 1, max(worst, abs(answer.gross_j / true_j - 1))
        found[fault] = (refused, answered, worst)
    short = [energy_or_refusal(polled(drawn(source, KINDS[kind][1]), kind, source),
                               (LOAD[0], LOAD[0] + 8.0))
             for source in (random.Random(f"{kind} short {seed} {t}") for t in range(trials))]
    found["8 s window"] = (sum(isinstance(one, str) for one in short),
                           sum(not isinstance(one, str) for one in short), math.nan)
    return found


def checks(trials: int, seed: int = 0) -> list[Check]:
    """Prints the results and checks that every figure is within 1 %, or refused."""
    made: list[Check] = []
    valid: list[tuple[str, ...]] = []
    faulty: list[tuple[str, ...]] = []
    for kind in KINDS:
        gross, net, refused = errors_of(kind, trials, seed)
        valid.append((kind, str(len(gross)), str(refused), _worst(gross), _worst(net)))
        made.append(holds(f"{kind}: every figure within 1 %",
                          bool(gross) and max(gross + net) <= WITHIN,
                          f"worst {_worst(gross)} gross, {_worst(net)} net", "<= 1 %"))
        made.append(holds(f"{kind}: valid traces with a figure", len(gross) >= GIVEN * trials,
                          f"{len(gross)} of {trials}", f">= {GIVEN:.0%}"))
        for fault, (refused, answered, worst) in broken_answers(kind, trials, seed).items():
            faulty.append((kind, fault, str(refused), str(answered),
                           _percent(worst) if answered else "-"))
            correct = answered == 0 or worst <= WITHIN
            made.append(holds(f"{kind}, {fault}: refused or within 1 %", correct,
                              f"{refused} refused, {answered} figures",
                              "no error over 1 %"))
    print_table(f"valid traces ({trials} of each)",
                ("kind", "figures", "refused", "worst gross", "worst net / gross"), valid)
    print_table(f"faulty traces ({trials} of each)",
                ("kind", "fault", "refused", "figures", "worst gross"), faulty)
    return made


def _worst(errors: Sequence[float]) -> str:
    return _percent(max(errors)) if errors else "none"


def _percent(share: float) -> str:
    return f"{share:.2%}"


def run(arguments: argparse.Namespace) -> bool:
    return conclude(checks(arguments.trials, arguments.seed), "energy") == 0
