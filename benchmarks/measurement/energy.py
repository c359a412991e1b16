"""InferenceEnergy from synthetic rails whose integrals are known: within 1 %, or refused.

A load of known power over a known idle level is seen by a meter at 10 Hz: instantaneous power that
moves slowly, power averaged by the meter over its own period while the load jumps, or a counter
that wraps. It is polled at jittered moments, in whole units, some polls fail and some are late.
Every kind is tried on sound traces, of which most must give a figure, and on broken ones (a gap, a
short window, a meter that stands still, a counter that starts anew), all of which must be refused.
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
"""Kilojoules, so that it wraps every 3 s to 5 min: far more often than real ones."""
WANDER, WANDER_S = 0.02, 1.7
"""An idle machine is never quite still."""


@dataclass(frozen=True)
class World:
    """True power: ``idle_w``, which wanders a little, and during the load ``load_w`` more, which
    swings by ``swing`` every ``period_s``, as a sine or in jumps."""

    idle_w: float
    load_w: float
    swing: float
    period_s: float
    jumps: bool

    def idle_until(self, moment: float) -> float:
        phase = 2 * math.pi * moment / WANDER_S
        return self.idle_w * (moment + WANDER * WANDER_S / (2 * math.pi) * (1 - math.cos(phase)))

    def energy_until(self, moment: float) -> float:
        """Joules since zero, in closed form."""
        at_work = min(max(moment - LOAD[0] + 1.5, 0.0), LOAD[1] - LOAD[0] + 1.5)
        turns = at_work / self.period_s
        if self.jumps:
            part = turns - math.floor(turns)
            moved = self.swing * self.period_s * (part if part < 0.5 else 1 - part)
        else:
            moved = self.swing * self.period_s / (2 * math.pi) * (1 - math.cos(2 * math.pi * turns))
        return self.idle_until(moment) + self.load_w * (at_work + moved)

    def power(self, moment: float) -> float:
        step = 1e-6
        return (self.energy_until(moment + step) - self.energy_until(moment - step)) / (2 * step)


def drawn(source: random.Random, jumps: bool) -> World:
    period_s = source.uniform(0.003, 0.02) if jumps else source.uniform(3.0, 8.0)
    return World(source.uniform(1.0, 60.0), source.uniform(2.0, 200.0), source.uniform(0.05, 0.4),
                 period_s, jumps)


def averaged(world: World, moment: float) -> float:
    """Watts, the mean over the meter's last period."""
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
    """20 to 50 polls a second; one in fifty fails, one in a hundred comes up to 0.15 s late."""
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


def told(trace: PolledRail, load: tuple[float, float] = LOAD) -> InferenceEnergy | str:
    try:
        return energy_per_inference([trace], "cpu", load, CALLS, BEFORE, AFTER)
    except EnergyUnavailable as error:
        return str(error)


def gap(trace: PolledRail, source: random.Random) -> PolledRail:
    """Nothing is read for 0.15 to 2 s of the load. Power is unknown there; a counter goes on,
    unless it may have wrapped in the meantime."""
    start = source.uniform(LOAD[0] + 1.0, LOAD[1] - 6.0)
    end = start + source.uniform(0.15, 2.0)
    kept = [place for place, moment in enumerate(trace.times_s) if not start < moment < end]
    return trace._replace(times_s=[trace.times_s[place] for place in kept],
                          values=[trace.values[place] for place in kept])


def still(trace: PolledRail, source: random.Random) -> PolledRail:
    """From some moment on the meter says the same for 2 to 5 s."""
    start = source.uniform(LOAD[0] + 1.0, LOAD[1] - 6.0)
    end = start + source.uniform(2.0, 5.0)
    held = next(value for moment, value in zip(trace.times_s, trace.values, strict=True)
                if moment >= start and value == value)
    return trace._replace(values=[held if start <= moment < end else value for moment, value in
                                  zip(trace.times_s, trace.values, strict=True)])


def anew(trace: PolledRail, source: random.Random) -> PolledRail:
    """A counter that begins at zero in the middle of the load."""
    moment = source.uniform(LOAD[0] + 2.0, LOAD[1] - 2.0)
    level = next(value for at, value in zip(trace.times_s, trace.values, strict=True)
                 if at >= moment and value == value)
    return trace._replace(values=[value - level if at >= moment else value for at, value in
                                  zip(trace.times_s, trace.values, strict=True)])


BROKEN: dict[str, Callable[[PolledRail, random.Random], PolledRail]] = {"gap": gap,
                                                                        "stands still": still}


def errors_of(kind: str, trials: int, seed: int) -> tuple[list[float], list[float], int]:
    """Relative errors of gross and net energy of sound traces, and how many were refused."""
    gross, net, refused = [], [], 0
    for trial in range(trials):
        source = random.Random(f"{kind} {seed} {trial}")
        world = drawn(source, KINDS[kind][1])
        found = told(polled(world, kind, source))
        if isinstance(found, str) or found.net_j is None:
            refused += 1
            continue
        true_j = (world.energy_until(LOAD[1]) - world.energy_until(LOAD[0])) / CALLS
        idle_j = (world.idle_until(LOAD[1]) - world.idle_until(LOAD[0])) / CALLS
        gross.append(abs(found.gross_j / true_j - 1))
        net.append(abs(found.net_j - (true_j - idle_j)) / true_j)
    return gross, net, refused


def broken_answers(kind: str, trials: int, seed: int) -> dict[str, tuple[int, int, float]]:
    """For each fault: how many were refused, how many answered, and the worst error of those."""
    faults = dict(BROKEN, **({"starts anew": anew} if kind == "counter" else {}))
    found: dict[str, tuple[int, int, float]] = {}
    for fault, broken in faults.items():
        refused, worst, answered = 0, 0.0, 0
        for trial in range(trials):
            source = random.Random(f"{kind} {fault} {seed} {trial}")
            world = drawn(source, KINDS[kind][1])
            answer = told(broken(polled(world, kind, source), source))
            if isinstance(answer, str):
                refused += 1
                continue
            true_j = (world.energy_until(LOAD[1]) - world.energy_until(LOAD[0])) / CALLS
            answered, worst = answered + 1, max(worst, abs(answer.gross_j / true_j - 1))
        found[fault] = (refused, answered, worst)
    short = [told(polled(drawn(source, KINDS[kind][1]), kind, source), (LOAD[0], LOAD[0] + 8.0))
             for source in (random.Random(f"{kind} short {seed} {t}") for t in range(trials))]
    found["8 s window"] = (sum(isinstance(one, str) for one in short),
                           sum(not isinstance(one, str) for one in short), math.nan)
    return found


def checks(trials: int, seed: int = 0) -> list[Check]:
    """Prints what was found and says whether every figure is within 1 %, or refused."""
    made: list[Check] = []
    sound: list[tuple[str, ...]] = []
    faulty: list[tuple[str, ...]] = []
    for kind in KINDS:
        gross, net, refused = errors_of(kind, trials, seed)
        sound.append((kind, str(len(gross)), str(refused), _worst(gross), _worst(net)))
        made.append(holds(f"{kind}: every figure within 1 %",
                          bool(gross) and max(gross + net) <= WITHIN,
                          f"worst {_worst(gross)} gross, {_worst(net)} net", "<= 1 %"))
        made.append(holds(f"{kind}: sound traces that give one", len(gross) >= GIVEN * trials,
                          f"{len(gross)} of {trials}", f">= {GIVEN:.0%}"))
        for fault, (refused, answered, worst) in broken_answers(kind, trials, seed).items():
            faulty.append((kind, fault, str(refused), str(answered),
                           _percent(worst) if answered else "-"))
            right = answered == 0 or worst <= WITHIN
            made.append(holds(f"{kind}, {fault}: refused or within 1 %", right,
                              f"{refused} refused, {answered} answered",
                              "no answer off by over 1 %"))
    print_table(f"sound traces ({trials} of each)",
                ("kind", "figures", "refused", "worst gross", "worst net / gross"), sound)
    print_table(f"broken traces ({trials} of each)",
                ("kind", "fault", "refused", "answered", "worst gross"), faulty)
    return made


def _worst(errors: Sequence[float]) -> str:
    return _percent(max(errors)) if errors else "none"


def _percent(share: float) -> str:
    return f"{share:.2%}"


def run(arguments: argparse.Namespace) -> bool:
    return conclude(checks(arguments.trials, arguments.seed), "energy") == 0
