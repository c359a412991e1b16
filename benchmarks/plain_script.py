"""The script that an engineer writes in an hour, without fleetfront: prune, distil, quantize.

    python -m benchmarks.plain_script --network residual --minutes 8 --out DIR

torch-pruning with one ratio for the whole network, at as many ratios as the time allows, three
epochs of distillation each, BatchNorm folded by the exporter, static int8 by ONNX Runtime. Every
network is kept in float32 and in int8. ``points.json`` has the figures of each file as the script
measures them itself: quality on validation and test, bytes, median latency of plain calls.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch
from torch import nn

from benchmarks import plain_compression as plain
from benchmarks.networks.catalog import NETWORKS, Data, Network

RATIOS = (0.5, 0.7, 0.3, 0.6, 0.75, 0.8, 0.65, 0.4, 0.55, 0.85, 0.2, 0.9, 0.45, 0.35)
"""Shares of the channels to remove, coarse to fine; first of every layer, then by one threshold
for all layers."""
EPOCHS = 3


@dataclass(frozen=True)
class Point:
    """A file and its figures; ``at_s`` is when it was complete, from the start of the search."""

    file: str
    how: str
    quality: float
    quality_test: float
    file_bytes: int
    latency_s: float
    at_s: float


class Search:
    """Files of one network, measured as they are made, and stored in ``points.json``."""

    def __init__(self, network: Network, net: nn.Module, out: Path) -> None:
        self.network, self.net, self.out = network, net, out
        splits = network.splits()
        self.training: Data = splits["training"]
        self.example = torch.zeros(1, *network.input_shape)
        self.calibration = plain.calibration_inputs(self.training)
        plain.exported(net, out / "baseline.onnx", self.example)
        self.validation, self.test = (plain.held(network, splits[name], out / "baseline.onnx")
                                      for name in ("validation", "test"))
        self.baseline = self.measured("baseline.onnx", "as it is", 0.0)
        self.taught = plain.WithLogits(self.training, plain.logits_of(net, self.training))
        self.points: list[Point] = []
        self.began = time.monotonic()

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self.began

    def measured(self, file: str, how: str, at_s: float) -> Point:
        path, example = self.out / file, self.calibration[:1]
        return Point(file, how, plain.quality(path, self.validation),
                     plain.quality(path, self.test), path.stat().st_size,
                     plain.latency_s(path, example), at_s)

    def keep(self, net: nn.Module, name: str) -> list[Point]:
        """The files of ``net`` in float32 and in each form of int8."""
        plain.exported(net, self.out / f"{name}.onnx", self.example)
        found = [self.measured(f"{name}.onnx", "float32", self.spent_s)]
        for form in self.network.int8:
            file = f"{name}-{form}.onnx"
            plain.quantized(self.out / f"{name}.onnx", self.out / file, self.calibration, form)
            found.append(self.measured(file, f"int8, {form}", self.spent_s))
        self.points += found
        self.store()
        return found

    def store(self) -> None:
        document = {"baseline": asdict(self.baseline), "points": [asdict(p) for p in self.points]}
        partial = self.out / "points.json.partial"
        partial.write_text(json.dumps(document, indent=1))
        partial.replace(self.out / "points.json")


def settings() -> Iterator[tuple[bool, float]]:
    """(one threshold for all layers, ratio) in the order in which they are tried."""
    yield from product((False, True), RATIOS)


def search(found: Search, minutes: float, epochs: int) -> None:
    """Tries the settings until the time is over; the one that runs then is completed. Settings
    that round to the same widths are tried once."""
    found.keep(found.net, "unpruned")
    tried: set[tuple[int, ...]] = set()
    for overall, ratio in settings():
        if found.spent_s >= minutes * 60:
            return
        name = f"{'global' if overall else 'layers'}-{ratio:g}"
        small = plain.pruned(found.net, found.example, ratio, overall, found.network.round_to)
        widths = tuple(plain.widths(small))
        if widths in tried:
            continue
        tried.add(widths)
        if epochs:
            small = plain.distilled(small, found.network, found.taught, epochs)
        else:
            small = plain.statistics_updated(small, found.training)
        kept = found.keep(small, name)
        print(f"{found.spent_s:.0f} s {name}: " + ", ".join(
            line(found.baseline, point) for point in kept), flush=True)


def line(baseline: Point, point: Point) -> str:
    return (f"{point.how} {(baseline.quality_test - point.quality_test) * 100:+.2f} points "
            f"{baseline.file_bytes / point.file_bytes:.1f}x "
            f"{baseline.latency_s / point.latency_s:.1f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=sorted(NETWORKS), required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="a state_dict instead of the network's own")
    parser.add_argument("--epochs", type=int, default=EPOCHS,
                        help="of distillation; 0: the statistics of BatchNorm instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of training")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer's advice, at every file
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    network = NETWORKS[arguments.network]
    net = network.module()
    if arguments.weights is not None:
        net.load_state_dict(torch.load(arguments.weights, weights_only=True))
    found = Search(network, net.eval(), arguments.out)
    search(found, arguments.minutes, arguments.epochs)
    show(found)


def show(found: Search) -> None:
    """The smallest and the fastest file by the loss on test."""
    base = found.baseline
    print(f"baseline {base.quality_test:.2%} on test, {base.file_bytes:,} bytes, "
          f"{base.latency_s * 1e6:.0f} us; {len(found.points)} files in {found.spent_s:.0f} s")
    for allowed in (0.0005, 0.003, 0.01, 0.02):
        within = [p for p in found.points if base.quality_test - p.quality_test <= allowed + 1e-9]
        if not within:
            print(f"within {allowed * 100:g} points: none")
            continue
        smallest = min(within, key=lambda p: p.file_bytes)
        fastest = min(within, key=lambda p: p.latency_s)
        print(f"within {allowed * 100:g} points: smallest {smallest.file} "
              f"{line(base, smallest)}; fastest {fastest.file} {line(base, fastest)}")


if __name__ == "__main__":
    main()
