"""Eviction: keeps a campaign folder within a size. Files outside the live set are dropped, oldest
first, and built again on demand.

    ledger    dropped_s = now, COMMIT
    file                               renamed aside   unlinked
    killed here:     file stays  |  file is found again |  it is swept at the next start

The live set is what ``searcher.artifacts.live_set`` names, with the files of running trials and of
baselines. The builders' cache in ``builds/`` is evicted by its last use."""

import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from searcher.artifacts.live_set import live_files
from searcher.errors import LedgerError, UserError
from searcher.ledger.clock import Clock
from searcher.ledger.store import Store
from searcher.ledger.tables import artifacts
from searcher.spec.recipe import Recipe

log = logging.getLogger(__name__)

LOW_WATER = 0.95
"""Fraction of the bound down to which a pass evicts, so that the next pass is not due at once."""
YOUNG_S = 300.0
"""Files touched within this time stay: a builder may be about to report them."""
SLICE = 64
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_BASELINE = Recipe().hash
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_ASIDE = ".dropped-"
_LEFTOVER = re.compile(r"\.dropped-[0-9a-f]{64}|\.[0-9a-f]{64}\.\d+")

Slow = Callable[[], object]


def parse_bytes(text: str) -> int:
    """``50GB``, ``800 MiB``, or a plain number of bytes; KB is 1000. Raises UserError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2].upper() not in UNITS:
        raise UserError(f"{text!r} is no size. Write a number and a unit, such as 50GB or 800MiB.")
    size = int(float(found[1]) * UNITS[found[2].upper()])
    if size < 1:
        raise UserError(f"{text!r} is no bound: it must be at least 1 byte.")
    return size


@dataclass(frozen=True)
class Cached:
    """One folder below ``builds/``: ``name`` is the key of a build, ``used_s`` its last use."""

    used_s: float
    name: str
    size_bytes: int

    @property
    def is_scratch(self) -> bool:
        return self.name.startswith("scratch/")


class EvictionPolicy:
    """Keeps ``artifacts/`` and ``builds/`` of ``folder`` within ``bound_bytes`` (None: no bound).

    Use from the coordinator's thread. Totals are kept incrementally and may err upwards; the disk
    is counted at the start and when a pass is due.
    """

    def __init__(
        self, store: Store, folder: Path, clock: Clock, bound_bytes: int | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.bound_bytes = bound_bytes
        self.artifact_bytes = self.cache_bytes = 0
        self._store, self._clock, self._wall_s = store, clock, wall_s
        self._artifacts, self._builds = folder / "artifacts", folder / "builds"
        self._counted = 0
        self._cached: list[Cached] = []
        self._arrived_bytes = self._arrived_cache_bytes = 0
        self._again_above_bytes = self._warned_bytes = 0
        self._again_at_s = 0.0

    @property
    def total_bytes(self) -> int:
        return self.artifact_bytes + self.cache_bytes

    @property
    def due(self) -> bool:
        """Whether a pass may find something to evict."""
        if self.bound_bytes is None or self.total_bytes <= self.bound_bytes:
            return False
        return (self.total_bytes > self._again_above_bytes
                or self._wall_s() >= self._again_at_s)

    def grew(self, artifact_bytes: int, cache_bytes: int = 0) -> bool:
        """A file was added, or a builder cached something; True when a pass is due."""
        self.artifact_bytes += artifact_bytes
        self.cache_bytes += cache_bytes
        self._arrived_bytes += artifact_bytes
        self._arrived_cache_bytes += cache_bytes
        return self.due

    def touch(self, path: Path) -> None:
        """Marks the file as in use: a running pass leaves it."""
        if self.bound_bytes is not None:
            now_s = self._wall_s()
            os.utime(path, (now_s, now_s))

    def begin(self) -> Iterator[Slow | None]:
        """Once, before the first pass: repairs what a kill left half done, and counts bytes.
        Consumed as ``steps`` is."""
        yield self._sweep
        yield from self._count()
        after = 0
        while page := artifacts.page(self._store.db, after, SLICE):
            after = page[-1].row
            there = [f.sha256 for f in page
                     if f.dropped_s is not None and (self._artifacts / f.sha256).exists()]
            if there:
                with self._store.atomic() as db:
                    artifacts.found_again(db, there)
            yield None

    def steps(self) -> Iterator[Slow | None]:
        """One pass, each step a few milliseconds. A yielded function is slow and touches no
        ledger: the caller runs it, best in a thread, before the next step."""
        yield from self._count()
        if not self.due:
            return
        db, since_s, young_s = self._store.db, self._clock(), self._wall_s() - YOUNG_S
        stay = yield from live_files(db)
        goal = int((self.bound_bytes or 0) * LOW_WATER)
        free, held = yield from self._sorted_cache(young_s)
        after = 0
        while self.total_bytes > goal and (page := artifacts.page(db, after, SLICE)):
            after = page[-1].row
            yield from self._drop_cached(free, goal, page[0].created_s)
            yield from self._drop_files(page, stay, since_s, young_s, goal)
        yield from self._drop_cached(free, goal)
        yield from self._drop_cached(held, self.bound_bytes or 0)
        self._conclude()

    def _conclude(self) -> None:
        bound = self.bound_bytes or 0
        # What could not be freed now is not retried for every file that arrives.
        self._again_above_bytes = self.total_bytes + bound // 100
        self._again_at_s = self._wall_s() + YOUNG_S
        if self.total_bytes > bound and self.total_bytes != self._warned_bytes:
            self._warned_bytes = self.total_bytes
            log.warning(
                "--keep is %d bytes, but files that are needed or younger than %d s take %d bytes; "
                "none of them was dropped. Raise --keep or free space by hand.",
                bound, YOUNG_S, self.total_bytes)

    def _drop_files(
        self, page: Sequence[artifacts.FileRow], stay: set[str], since_s: float, young_s: float,
        goal: int,
    ) -> Iterator[Slow | None]:
        spare = [f for f in page if f.dropped_s is None and f.sha256 not in stay]
        if spare:
            worked = artifacts.of_work(
                self._store.db, [f.sha256 for f in spare], _BASELINE, since_s)
            spare = [f for f in spare if f.sha256 not in worked and self._older(f.sha256, young_s)]
        chosen, left = [], self.total_bytes - goal
        for file in spare:
            if left <= 0:
                break
            chosen.append(file.sha256)
            left -= file.file_bytes
        if chosen:
            try:
                with self._store.atomic() as db:
                    artifacts.drop(db, chosen, self._clock())
            except LedgerError as error:
                # A full disk: the builders' cache can be evicted without the ledger.
                log.error("%s", error)
            else:
                yield from self._remove(chosen, young_s)
        yield None

    def _older(self, sha256: str, than_s: float) -> bool:
        try:
            return (self._artifacts / sha256).stat().st_mtime < than_s
        except FileNotFoundError:
            return False

    def _remove(self, chosen: Sequence[str], young_s: float) -> Iterator[Slow | None]:
        back: list[str] = []
        freed: list[int] = []
        yield partial(self._unlink, chosen, young_s, back, freed)
        self.artifact_bytes -= sum(freed)
        if back:
            with self._store.atomic() as db:
                artifacts.found_again(db, back)
        log.info("dropped %d files; %d bytes are left", len(freed), self.total_bytes)

    def _unlink(
        self, chosen: Sequence[str], young_s: float, back: list[str], freed: list[int]
    ) -> None:
        """Rename first and look again: a file touched before the rename is put ``back``; a
        writer that comes after it finds none and writes a new one."""
        for sha256 in chosen:
            path, aside = self._artifacts / sha256, self._artifacts / f"{_ASIDE}{sha256}"
            try:
                path.rename(aside)
            except FileNotFoundError:
                continue
            status = aside.stat()
            if status.st_mtime >= young_s:
                aside.rename(path)
                back.append(sha256)
            else:
                aside.unlink()
                freed.append(status.st_size)

    def _sorted_cache(
        self, young_s: float
    ) -> Generator[Slow | None, None, tuple[deque[Cached], deque[Cached]]]:
        """Entries that may be evicted by their last use, and those that are evicted only as a
        last resort. A working builder's scratch files are in neither."""
        free: deque[Cached] = deque()
        held: deque[Cached] = deque()
        cached = sorted((c for c in self._cached
                         if not (c.is_scratch and c.used_s >= young_s)), key=lambda c: c.used_s)
        for start in range(0, len(cached), SLICE):
            part = cached[start:start + SLICE]
            used = artifacts.builds_in_use(self._store.db, [c.name for c in part], _BASELINE)
            for one in part:
                (held if one.name in used else free).append(one)
            yield None
        return free, held

    def _drop_cached(
        self, entries: deque[Cached], goal: int, before_s: float | None = None
    ) -> Iterator[Slow | None]:
        while entries and self.total_bytes > goal:
            if before_s is not None and entries[0].used_s >= before_s:
                return
            oldest = entries.popleft()
            yield partial(self._forget, oldest.name)
            self.cache_bytes -= oldest.size_bytes

    def _forget(self, name: str) -> None:
        """Files first, then the folder unless a builder has just begun to write there."""
        folder = self._builds / name
        for file in list(folder.glob("*")):
            if file.is_file() and not file.name.endswith(".partial"):
                file.unlink(missing_ok=True)
        try:
            folder.rmdir()
        except OSError:
            log.debug("%s is in use", folder)

    def _count(self) -> Iterator[Slow | None]:
        self._arrived_bytes = self._arrived_cache_bytes = 0
        yield self._look
        self.artifact_bytes = self._counted + self._arrived_bytes
        self.cache_bytes = sum(c.size_bytes for c in self._cached) + self._arrived_cache_bytes

    def _look(self) -> None:
        self._counted = sum(size for _, size in _sizes(self._artifacts))
        self._cached = list(_cache_of(self._builds))

    def _sweep(self) -> None:
        """Removes files that an earlier process set aside, and files that builders left half
        written."""
        for path in list(self._artifacts.iterdir()):
            if _LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _sizes(folder: Path) -> Iterator[tuple[float, int]]:
    """Time of change and bytes of every file right below ``folder``."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if entry.is_file(follow_symlinks=False):
                    yield status.st_mtime, status.st_size
    except FileNotFoundError:
        return


def _cache_of(folder: Path) -> Iterator[Cached]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        parts = list(path.iterdir()) if path.name == "scratch" else [path]
        for part in parts:
            found = list(_sizes(part))
            if found:
                name = str(part.relative_to(folder))
                yield Cached(max(t for t, _ in found), name, sum(size for _, size in found))
