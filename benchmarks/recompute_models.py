"""Quality of ONNX files of the benchmark's networks, computed without code of fleetfront.

    python -m benchmarks.recompute_models residual FILE.onnx ... --baseline BASELINE.onnx [--json]

Reads the data by itself and repeats the documented rules:
- residual, vgg, vision_transformer: validation is pictures 8,000 to 9,999 of Fashion-MNIST's
  training file, test the first 4,000 of its test file; inputs are (pixels / 255 - 0.2860) / 0.3530
  in float32, (n, 1, 28, 28). Quality is the share of right answers.
- mobilenet_v2: the crops of 92 photographs that ``benchmarks.networks`` keeps in the folder
  $FLEETFRONT_NETWORKS. The photographs are sorted by the sha256 of ``v1<package>/<name>``; of the
  first 40 % the first half is validation, the second test, 16 crops each; the others have 28.
  Inputs are standardised by ImageNet's mean and deviation. Quality is the share of crops where the
  answer is the baseline's, and its interval is by photograph: a bootstrap over photographs.
- The answer is the largest output, of batches of 100.
"""

import argparse
import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime

FASHION = {
    "validation": ("b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                   "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
    "test": ("cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
             "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
}
ROWS = {"validation": slice(8_000, 10_000), "test": slice(0, 4_000)}
CROPS_OF_TRAINING, CROPS_HELD_OUT = 28, 16
BATCH, DRAWS = 100, 10_000
CONFIDENT = 0.5
"""Probability of the baseline's answer from which a crop counts as confident."""


@dataclass(frozen=True)
class Quality:
    """``right`` of ``n`` answers; by photograph an interval of 95 %, and the same counts over the
    confident crops."""

    right: int
    n: int
    low: float | None = None
    high: float | None = None
    confident_right: int | None = None
    confident: int | None = None

    @property
    def value(self) -> float:
        return self.right / self.n


def data_folder() -> Path:
    named = os.environ.get("FLEETFRONT_CACHE")
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(named) if named else Path(home) / "fleetfront"


def networks_folder() -> Path:
    named = os.environ.get("FLEETFRONT_NETWORKS")
    return Path(named) if named else data_folder() / "networks"


# -- data -----------------------------------------------------------------------------------


def _content(sha256: str) -> bytes:
    path = data_folder() / sha256
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SystemExit(f"{path} has another digest.")
    return gzip.decompress(content)


def fashion(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 28, 28) uint8 and labels (n,)."""
    images, answers = (_content(digest) for digest in FASHION[split])
    pixels = np.frombuffer(images[16:], np.uint8).reshape(-1, 28, 28)
    return pixels[ROWS[split]], np.frombuffer(answers[8:], np.uint8)[ROWS[split]]


def photograph_order(table: str) -> list[str]:
    """``package/name`` of each photograph, sorted by digest, from lines ``package name sha256``;
    files with one name before ``__`` are one photograph."""
    names = {"/".join((line.split("\t")[0], line.split("\t")[1].split("__")[0]))
             for line in table.splitlines()}
    return sorted(names, key=lambda name: hashlib.sha256(f"v1{name}".encode()).hexdigest())


def rows_of_crops(count: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(rows of the file of crops, number of the photograph of each) of a held-out split among
    ``count`` photographs."""
    held_out = int(count * 0.4)
    first, last = {"validation": (0, held_out // 2), "test": (held_out // 2, held_out)}[split]
    numbers = np.repeat(np.arange(first, last), CROPS_HELD_OUT)
    return np.arange(first * CROPS_HELD_OUT, last * CROPS_HELD_OUT), numbers


def inputs_of(pixels: np.ndarray) -> np.ndarray:
    """Model inputs from (n, 28, 28) or (n, 224, 224, 3) uint8."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    if pixels.ndim == 3:
        return ((scaled - np.float32(0.2860)) / np.float32(0.3530))[:, None]
    mean = np.array((0.485, 0.456, 0.406), np.float32)
    deviation = np.array((0.229, 0.224, 0.225), np.float32)
    return np.ascontiguousarray(((scaled - mean) / deviation).transpose(0, 3, 1, 2))


# -- answers --------------------------------------------------------------------------------


def outputs(file: Path, pixels: np.ndarray) -> Iterator[np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for start in range(0, len(pixels), BATCH):
        yield session.run(None, {name: inputs_of(pixels[start:start + BATCH])})[0]


def answers(file: Path, pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([np.argmax(o, axis=1) for o in outputs(file, pixels)])


def confident_rows(baseline: Path, pixels: np.ndarray) -> np.ndarray:
    """Where the baseline gives its answer more than ``CONFIDENT`` probability."""
    logits = np.concatenate(list(outputs(baseline, pixels))).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = 1 / odds.sum(axis=1) > CONFIDENT
    return found


def interval_by_group(right: np.ndarray, groups: np.ndarray, draws: int = DRAWS
                      ) -> tuple[float, float]:
    """95 % interval of the mean of ``right`` (n,) by a bootstrap over whole groups."""
    _, position = np.unique(groups, return_inverse=True)
    sums = np.bincount(position, weights=right.astype(float))
    sizes = np.bincount(position)
    chosen = np.random.default_rng(0).integers(0, len(sizes), (draws, len(sizes)))
    means = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def of_files(network: str, files: list[Path], baseline: Path, split: str) -> dict[str, Quality]:
    """Quality by path."""
    if network != "mobilenet_v2":
        pixels, labels = fashion(split)
        return {str(f): Quality(int((answers(f, pixels) == labels).sum()), len(labels))
                for f in files}
    table = (Path(__file__).parent / "networks" / "photographs.tsv").read_text()
    rows, groups = rows_of_crops(len(photograph_order(table)), split)
    pixels = np.load(networks_folder() / "photographs-224.npy", mmap_mode="r")[rows]
    wanted, sure = answers(baseline, pixels), confident_rows(baseline, pixels)
    found = {}
    for file in files:
        right = answers(file, pixels) == wanted
        low, high = interval_by_group(right, groups)
        found[str(file)] = Quality(int(right.sum()), len(right), low, high,
                                   int(right[sure].sum()), int(sure.sum()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=("residual", "vgg", "vision_transformer",
                                            "mobilenet_v2"))
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--baseline", type=Path, required=True)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--json", action="store_true", help="{file: counts}")
    arguments = parser.parse_args()
    found = of_files(arguments.network, arguments.files, arguments.baseline, arguments.split)
    if arguments.json:
        print(json.dumps({file: asdict(quality) for file, quality in found.items()}))
        return
    for file, quality in found.items():
        inside = "" if quality.low is None else f" [{quality.low:.2%} {quality.high:.2%}]"
        print(f"{quality.value:.4%}{inside} ({quality.right} of {quality.n})  {file}")


if __name__ == "__main__":
    main()
