"""JPEG files on disk as a task: memory of data in the builders, and speed of reading."""

import os
import statistics
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks import commands, own_tasks
from benchmarks.checks import Check, against

SHARES = {"training": 0.7, "validation": 0.15, "test": 0.15}
WIDTH, HEIGHT, QUALITY = 1600, 1200, 92
DATA_BYTES = 512 * 2**20
CAMPAIGN = """\
name = "{name}"
task = "benchmarks.own_tasks:{name}"
builders = 1

[budget]
candidates = {candidates}
wall_minutes = {minutes}
"""


def write_photo(path: str, number: int) -> int:
    """Writes one JPEG: stripes whose direction is the class, colours and noise; its bytes."""
    draw = np.random.default_rng(number)
    angle = np.pi * (number % own_tasks.CLASSES) / own_tasks.CLASSES
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * draw.uniform(0.02, 0.05))
    colours = draw.uniform(40, 90, 3)
    noise = draw.integers(-40, 40, (HEIGHT, WIDTH, 3), dtype=np.int16)
    pixels = 128 + wave[..., None] * colours + noise
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
    return os.path.getsize(path)


def write_photos(folder: Path, gigabytes: float) -> int:
    """Writes photographs into a folder for each split until they have ``gigabytes``; their bytes.
    A folder that is there is used as it is."""
    if folder.exists():
        return sum(f.stat().st_size for f in folder.rglob("*.jpg"))
    partial = folder.with_suffix(".partial")
    partial.mkdir(parents=True)
    one = write_photo(str(partial / "first.jpg"), 0)
    (partial / "first.jpg").unlink()
    count = max(int(gigabytes * 2**30 / one), 100)
    total = number = 0
    with ProcessPoolExecutor() as pool:
        for split, share in SHARES.items():
            (partial / split).mkdir(exist_ok=True)
            numbers = range(number, number + round(count * share))
            number = numbers.stop
            paths = [str(partial / split / f"{n % own_tasks.CLASSES}-{n}.jpg") for n in numbers]
            total += sum(pool.map(write_photo, paths, numbers, chunksize=16))
    partial.rename(folder)
    return total


class BuilderMemory:
    """The largest memory, in bytes, of a builder with its DataLoader workers while a campaign
    runs in ``directory``: private memory and each process's part of what they share."""

    def __init__(self, directory: Path) -> None:
        self.peak_bytes, self._directory = 0, str(directory)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "BuilderMemory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            for process in psutil.process_iter(["cmdline"]):
                words = process.info["cmdline"] or []
                if "searcher.builders.process" in words and self._directory in words:
                    self.peak_bytes = max(self.peak_bytes, _tree_bytes(process))


def _tree_bytes(process: psutil.Process) -> int:
    total = 0
    try:
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_full_info().pss
    except psutil.Error:
        pass  # it ended in between
    return total


def peak_bytes(name: str, root: Path, candidates: int, minutes: float) -> int:
    """Runs the campaign on ``benchmarks.own_tasks:name``; the peak memory of its builder."""
    directory = root / name
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "campaign.toml"
    file.write_text(CAMPAIGN.format(name=name, candidates=candidates, minutes=minutes))
    with BuilderMemory(directory) as memory:
        commands.run_timed(file, directory, None, reuse=False)
    return memory.peak_bytes


def epoch_ratio(rounds: int = 3) -> float:
    """Time to read an epoch in fleetfront relative to a plain DataLoader with as many workers
    over as many samples: the median of alternating rounds."""
    from searcher.tasks.training_data import TrainingSplit

    task = own_tasks.photos()
    split = TrainingSplit(task, seed=0)
    samples = split.batches_per_epoch * task.batch_size
    folder = Path(os.environ[own_tasks.PHOTOS]) / "training"
    ratios = []
    for number in range(rounds):
        plain = own_tasks.Photos(folder)
        start = number * samples % max(len(plain.files) - samples, 1)
        plain.files = plain.files[start:start + samples]
        loader = DataLoader(plain, task.batch_size, shuffle=True, num_workers=task.workers)
        began = time.monotonic()
        read = sum(len(targets) for _, targets in loader)
        plain_s = (time.monotonic() - began) / read
        began = time.monotonic()
        read = sum(len(batch.targets) for batch in split.batches(number))
        ratios.append((time.monotonic() - began) / read / plain_s)
    return statistics.median(ratios)


def checks(root: Path, gigabytes: float) -> list[Check]:
    """Makes the photographs, runs both campaigns and times epochs."""
    stored = write_photos(root / "jpeg", gigabytes)
    ratio = epoch_ratio()
    few = peak_bytes("few_photos", root, 6, 2.0)
    many = peak_bytes("photos", root, 6, 6.0)
    print(f"builder's peak: {many / 2**20:.0f} MiB, {few / 2**20:.0f} MiB with 192 photographs")
    return [
        against("photographs", stored / 2**30, ">=", 0.95 * gigabytes, " GiB", 2),
        against("epoch, time beside a plain DataLoader", ratio, "<=", 1.05, "x"),
        against("memory of data in a builder", (many - few) / 2**20, "<=", DATA_BYTES / 2**20,
                " MiB", 0)]
