"""What the scans of a campaign found: the loss of each layer alone, by strength."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from searcher.documents import parse
from searcher.jobs.scan import Scan
from searcher.ledger.tables import jobs
from searcher.ledger.tables.search_state import SearchState
from searcher.spec.recipe import Recipe, Step
from searcher.spec.scan_result import LayerScan, ScanResult


@dataclass(frozen=True)
class LayerStrength:
    """The number of ``parameter`` that a step of a recipe has for ``layer``. ``step`` counts from
    1. ``loss`` is what the scan found for this number, None where it has none."""

    step: int
    strategy: str
    parameter: str
    layer: str
    strength: float
    loss: float | None


@dataclass(frozen=True)
class LossTable:
    """The losses of a scan as text, one row per layer; ``columns`` are the name of the layer, the
    number of its weights, and the strengths, strongest first. ``notes`` say what is missing."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def scans_of(db: Database, state: SearchState) -> tuple[ScanResult, ...]:
    """The scans of a search, by the name of the strategy. A scan is missing if its job was queued
    again and is not done."""
    done = jobs.done(db, Scan.name, state.scans.values())
    return tuple(parse(ScanResult, done[job].result)
                 for _, job in sorted(state.scans.items()) if job in done)


def layer_strengths(recipe: Recipe, scans: Sequence[ScanResult]) -> tuple[LayerStrength, ...]:
    """The numbers of all tables of ``recipe``, in the order of the scanned layers; layers that were
    not scanned come last."""
    known = {(scan.strategy, scan.parameter): scan.losses for scan in scans}
    return tuple(one for number, step in enumerate(recipe.steps, 1)
                 for one in _of_step(number, step, known))


def _of_step(number: int, step: Step, known: Mapping[
        tuple[str, str], Mapping[str, Mapping[float, float]]]) -> Iterator[LayerStrength]:
    for name, table in step.parameters:
        if isinstance(table, tuple):
            losses = known.get((step.strategy, name), {})
            places = {layer: place for place, layer in enumerate(losses)}
            for layer, strength in sorted(
                    table, key=lambda entry: places.get(entry[0], len(places))):
                yield LayerStrength(number, step.strategy, name, layer, strength,
                                    losses.get(layer, {}).get(strength))


def level_rows(device: str, scan: ScanResult) -> list[dict[str, object]]:
    """One flat row per layer and strength."""
    return [{"device": device, "strategy": scan.strategy, "parameter": scan.parameter,
             "layer": one.layer, "weights": one.weights, **vars(level)}
            for one in scan.layers for level in one.levels]


def loss_table(scan: ScanResult) -> LossTable:
    strengths = sorted({level.strength for one in scan.layers for level in one.levels})
    return LossTable(
        f"{scan.strategy}: loss by {scan.parameter}, {_counted(len(scan.layers), 'layer')}, "
        f"{_counted(scan.samples, 'sample')}",
        ("layer", "weights", *(f"{strength:g}" for strength in strengths)),
        tuple(_loss_row(one, strengths) for one in scan.layers), tuple(_notes(scan)))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _loss_row(one: LayerScan, strengths: Sequence[float]) -> tuple[str, ...]:
    losses = {level.strength: level.loss for level in one.levels}
    return (one.layer, f"{one.weights:,}", *(loss_text(losses.get(s)) for s in strengths))


def _notes(scan: ScanResult) -> Iterator[str]:
    if scan.coarser is not None:
        yield f"coarser, to end in time: {scan.coarser}"
    layers: dict[str, list[str]] = {}
    for layer, why in scan.left.items():
        layers.setdefault(why, []).append(layer)
    for why, names in layers.items():
        yield f"left out: {', '.join(names)} ({why})"


def loss_text(loss: float | None) -> str:
    """``0.0012``; empty where there is none."""
    return "" if loss is None else f"{loss:.2g}"
