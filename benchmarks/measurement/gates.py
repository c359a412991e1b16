"""Which blocks should count? One recording of five models beside two references and two probes,
judged by every gate that was thought of.

    window  R S p m c1 R S p m c2 ... R S p m c5 R S p m | backwards | ...      WINDOW_S
            R, S   two references: fp32 LeNet-5 (what is shipped), and the thin one
            p, m   a hash of 64 KB (the core alone), a copy of 8 MB (the memory)
            /proc/stat's stolen ticks are read between blocks

A gate turns a window into one ratio per model, or into none when too few blocks count. Three ways
judge no block, or do more with those that count. A good way gives the same ratio in every window
(spread), in most windows (answered), and the same one as long recordings do (off: its median over
windows against that of blocks that all of the references and probes let pass).
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
    """``blocks[model]``: one row per block: its own median, then what was beside it before and
    after (``BESIDE`` twice), then the ticks stolen meanwhile. Seconds but for the last."""

    blocks: Mapping[str, np.ndarray]


Levels = Mapping[str, float]
Gate = Callable[[np.ndarray, Levels], np.ndarray]
"""Rows of a window and the quiet level of each thing beside -> which rows count."""
Way = Callable[[np.ndarray, Levels], float | None]
"""The same -> the ratio of the model to the reference."""


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
    """Fresh sessions, then blocks in turn, forwards and backwards."""
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
    worse: np.ndarray = np.maximum(rows[:, place], rows[:, place + len(BESIDE)])
    return worse


def by(*names: str, gate: float = GATE) -> Gate:
    """All of ``names`` within ``gate`` of their quiet levels: with ``fp32``, what is shipped."""
    return lambda rows, levels: np.logical_and.reduce(
        [beside(rows, name) <= levels[name] * (1 + gate) for name in names])


def nothing_stolen(rows: np.ndarray, levels: Levels) -> np.ndarray:
    """No tick was stolen from any core between the blocks around."""
    return np.asarray(rows[:, -1] == 0)


def mixture(rows: np.ndarray, levels: Levels) -> np.ndarray:
    """Rows that belong to the faster of two Gaussians of the logarithm of the reference's time,
    with a probability of over .9. Fitted by expectation and maximisation (Dempster 1977) to the
    window alone: it needs no level that was learnt before."""
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
    if counted.sum() < LEAST_BLOCKS:
        return None
    own, before, after = rows[counted, 0], rows[counted, 1], rows[counted, 1 + len(BESIDE)]
    return float(np.median(2 * own / (before + after)))


def low_quantiles(rows: np.ndarray, levels: Levels) -> float | None:
    """The quotient of both 10 % quantiles: no block is judged, the fast ones of each are compared.
    """
    return float(np.quantile(rows[:, 0], 0.1) / np.quantile(rows[:, 1], 0.1))


def drawn(*names: str) -> Way:
    """What the model would take were ``names`` at their quiet levels: its logarithm by least
    squares on theirs, over the blocks that count today. A ratio takes for granted that the model
    slows as the reference does; here the slope is what it is."""
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


def _gated(gate: Gate) -> Way:
    return lambda rows, levels: ratio(rows, gate(rows, levels))


WAYS: dict[str, Way] = {
    **{title: _gated(gate) for title, gate in GATES.items()},
    "low quantiles, no gate": low_quantiles,
    "drawn to the reference's level": drawn("fp32"),
    "drawn to the levels of both references": drawn("fp32", "thin"),
}


def _report(windows: Sequence[Window], levels: Levels) -> None:
    strictest, table = by(*BESIDE), []
    long = {name: _gated(strictest)(np.concatenate(_of(windows, name)), levels)
            for name in RECIPES}
    for title, way in WAYS.items():
        ratios = {name: [way(rows, levels) for rows in _of(windows, name)] for name in RECIPES}
        answered = sum(value is not None for value in ratios["fp32"])
        gate = GATES.get(title)
        share = "" if gate is None else format(np.mean(np.concatenate(
            [gate(rows, levels) for rows in _of(windows, "fp32")])), ".0%")
        table.append((title, f"{answered} of {len(windows)}", share,
                      *(_cell(ratios[name], long[name]) for name in RECIPES)))
    print_table(f"spread of the ratio over windows of {WINDOW_S:g} s; off from the long recording",
                ("way", "answered", "counted", *(
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
