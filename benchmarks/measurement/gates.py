"""Comparison of gates, which select the blocks of a measurement that count.

One recording of five models beside two references and two probes is evaluated with every gate.

    window  R S p m c1 R S p m c2 ... R S p m c5 R S p m | backwards | ...      WINDOW_S
            R, S   two references: fp32 LeNet-5 (used by fleetfront), and the thin one
            p, m   a hash of 64 KB (the core alone), a copy of 8 MB (the memory)
            /proc/stat's stolen ticks are read between blocks

An estimator computes one ratio per model from a window, or none if too few blocks count. Most use a
gate; three use no gate, or fit a model to the blocks that count. A good estimator gives the same
ratio in every window (spread), in most windows (accepted), and the ratio of long recordings (bias:
its median over windows, relative to the ratio of the blocks that pass all gates).
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measurement.hour import RECIPES, built
from benchmarks.measurement.models import opened
from searcher.cli.options import print_table
from searcher.spec.measurement_plan import GATE

WINDOW_S, WARMUP_S = 6.0, 1.0
BLOCK_S, PROBE_S = 0.004, 0.001
LEVEL_SHARE = 0.05
LEAST_BLOCKS = 20
BESIDE = ("fp32", "thin", "hash", "copy")


@dataclass(frozen=True)
class Window:
    """``blocks[model]``: one row per block: its median, the medians of ``BESIDE`` before it and
    after it, in seconds, and the ticks stolen meanwhile."""

    blocks: Mapping[str, np.ndarray]


Levels = Mapping[str, float]
Gate = Callable[[np.ndarray, Levels], np.ndarray]
"""(rows of a window, quiet level of each of BESIDE) -> mask of the rows that count."""
Estimator = Callable[[np.ndarray, Levels], float | None]
"""The same -> ratio of the model to the reference; None if too few rows count."""


def run(arguments: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        folder = Path(scratch)
        files = {name: built(name, steps, folder) for name, steps in RECIPES.items()}
        windows = [_window(files) for _ in range(arguments.trials)]
    levels = {name: _level(np.concatenate([
        rows[:, 1 + place] for window in windows for rows in window.blocks.values()]))
        for place, name in enumerate(BESIDE)}
    _report(windows, levels)
    return True


def _window(files: Mapping[str, Path]) -> Window:
    """Opens new sessions, then times blocks of all models in alternating order."""
    calls = {name: opened(path) for name, path in files.items()}
    beside = {"fp32": opened(files["fp32"]), "thin": opened(files["thin"]),
              "hash": _hash(), "copy": _copy()}
    for call in (*calls.values(), *beside.values()):
        _block(call, WARMUP_S / (len(calls) + len(beside)))
    rows: dict[str, list[list[float]]] = {name: [] for name in calls}
    order, end = list(calls), time.perf_counter() + WINDOW_S
    before, stolen = _beside(beside), _stolen_ticks()
    while time.perf_counter() < end:
        for name in order:
            own = _block(calls[name], BLOCK_S)
            after, then = _beside(beside), _stolen_ticks()
            rows[name].append([own, *before, *after, then - stolen])
            before, stolen = after, then
        order.reverse()
    return Window({name: np.array(found) for name, found in rows.items()})


def _beside(calls: Mapping[str, Callable[[], Any]]) -> list[float]:
    return [_block(call, PROBE_S if name in ("hash", "copy") else BLOCK_S)
            for name, call in calls.items()]


def _block(call: Callable[[], Any], seconds: float) -> float:
    found: list[float] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        before = time.perf_counter()
        call()
        found.append(time.perf_counter() - before)
    return median(found)


def _hash() -> Callable[[], Any]:
    content = bytes(65_536)
    return lambda: hashlib.sha256(content).digest()


def _copy() -> Callable[[], Any]:
    source, target = np.ones(2**20), np.empty(2**20)
    return lambda: np.copyto(target, source)


def _stolen_ticks() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        fields = file.readline().split()
    return float(fields[8]) if len(fields) > 8 else 0.0


def _level(seconds: np.ndarray) -> float:
    return float(np.quantile(seconds, LEVEL_SHARE))


def beside(rows: np.ndarray, name: str) -> np.ndarray:
    """The slower of the two blocks of ``name`` around each row."""
    place = 1 + BESIDE.index(name)
    slower: np.ndarray = np.maximum(rows[:, place], rows[:, place + len(BESIDE)])
    return slower


def by(*names: str, gate: float = GATE) -> Gate:
    """Gate: all of ``names`` are within ``gate`` of their quiet levels. fleetfront uses ``fp32``.
    """
    return lambda rows, levels: np.logical_and.reduce(
        [beside(rows, name) <= levels[name] * (1 + gate) for name in names])


def nothing_stolen(rows: np.ndarray, levels: Levels) -> np.ndarray:
    """Gate: no tick was stolen from any core between the adjacent blocks."""
    return np.asarray(rows[:, -1] == 0)


def mixture(rows: np.ndarray, levels: Levels) -> np.ndarray:
    """Gate: the row belongs to the faster of two Gaussians of the logarithm of the reference's
    time with a probability of over 0.9. The mixture is fitted by expectation maximisation
    (Dempster 1977) to the window alone, without a known level."""
    seconds = np.log(beside(rows, "fp32"))
    means = np.quantile(seconds, [0.1, 0.9])
    widths, shares = np.full(2, max(float(seconds.std()), 1e-3)), np.full(2, 0.5)
    for _ in range(50):
        density = shares * np.exp(-0.5 * ((seconds[:, None] - means) / widths) ** 2) / widths
        member = density / np.maximum(density.sum(axis=1, keepdims=True), 1e-300)
        weight = np.maximum(member.sum(axis=0), 1e-9)
        shares, means = weight / len(seconds), (member * seconds[:, None]).sum(axis=0) / weight
        widths = np.maximum(np.sqrt(
            (member * (seconds[:, None] - means) ** 2).sum(axis=0) / weight), 1e-3)
    return np.asarray(member[:, int(np.argmin(means))] > 0.9)


GATES: dict[str, Gate] = {
    "none: all blocks": lambda rows, levels: np.ones(len(rows), dtype=bool),
    "the reference (shipped)": by("fp32"),
    "the reference, 3 %": by("fp32", gate=0.03),
    "the reference, 5 %": by("fp32", gate=0.05),
    "the thin reference": by("thin"),
    "both references": by("fp32", "thin"),
    "the hash": by("hash"),
    "the copy": by("copy"),
    "the reference and both probes": by("fp32", "hash", "copy"),
    "nothing stolen": nothing_stolen,
    "the reference, nothing stolen": lambda rows, levels: (
        by("fp32")(rows, levels) & nothing_stolen(rows, levels)),
    "mixture of two states": mixture,
}


def ratio(rows: np.ndarray, counted: np.ndarray) -> float | None:
    """Median ratio of a block to its adjacent reference blocks, over the counted rows."""
    if counted.sum() < LEAST_BLOCKS:
        return None
    own, before, after = rows[counted, 0], rows[counted, 1], rows[counted, 1 + len(BESIDE)]
    return float(np.median(2 * own / (before + after)))


def low_quantiles(rows: np.ndarray, levels: Levels) -> float | None:
    """Ratio of the 10 % quantiles of model and reference, over all blocks."""
    return float(np.quantile(rows[:, 0], 0.1) / np.quantile(rows[:, 1], 0.1))


def extrapolated(*names: str) -> Estimator:
    """Estimates the model's time with ``names`` at their quiet levels, by least squares of its
    logarithm on theirs over the blocks that pass the gate. A plain ratio assumes that model and
    reference slow down by the same factor; here the slope is fitted."""
    def found(rows: np.ndarray, levels: Levels) -> float | None:
        rows = rows[by("fp32")(rows, levels)]
        if len(rows) < LEAST_BLOCKS:
            return None
        above = np.column_stack([np.log(
            (rows[:, place] + rows[:, place + len(BESIDE)]) / (2 * levels[name]))
            for name in names for place in [1 + BESIDE.index(name)]])
        own = np.log(rows[:, 0])
        slopes = np.linalg.lstsq(above - above.mean(axis=0), own - own.mean(), rcond=None)[0]
        return float(np.exp(np.median(own - above @ slopes)) / levels["fp32"])
    return found


def _gated(gate: Gate) -> Estimator:
    return lambda rows, levels: ratio(rows, gate(rows, levels))


ESTIMATORS: dict[str, Estimator] = {
    **{title: _gated(gate) for title, gate in GATES.items()},
    "low quantiles, no gate": low_quantiles,
    "extrapolated to the reference's level": extrapolated("fp32"),
    "extrapolated to the levels of both references": extrapolated("fp32", "thin"),
}


def _report(windows: Sequence[Window], levels: Levels) -> None:
    strictest, table = by(*BESIDE), []
    long = {name: _gated(strictest)(np.concatenate(_of(windows, name)), levels)
            for name in RECIPES}
    for title, estimate in ESTIMATORS.items():
        ratios = {name: [estimate(rows, levels) for rows in _of(windows, name)]
                  for name in RECIPES}
        accepted = sum(value is not None for value in ratios["fp32"])
        gate = GATES.get(title)
        share = "" if gate is None else format(np.mean(np.concatenate(
            [gate(rows, levels) for rows in _of(windows, "fp32")])), ".0%")
        table.append((title, f"{accepted} of {len(windows)}", share,
                      *(_cell(ratios[name], long[name]) for name in RECIPES)))
    print_table(f"spread of the ratio over windows of {WINDOW_S:g} s; bias against the long "
                "recording", ("estimator", "accepted", "counted", *(
                    "a copy" if name == "fp32" else name for name in RECIPES)), table)
    print("quiet levels: " + ", ".join(
        f"{name} {seconds * 1e6:.1f} us" for name, seconds in levels.items()))


def _of(windows: Sequence[Window], name: str) -> list[np.ndarray]:
    return [window.blocks[name] for window in windows]


def _cell(ratios: Sequence[float | None], long: float | None) -> str:
    known = np.array([value for value in ratios if value is not None])
    if len(known) < 3:
        return "-"
    off = "" if long is None else f", {np.median(known) / long - 1:+.2%}"
    return f"{known.std(ddof=1) / known.mean():.2%}{off}"
