"""The disk limit: which files are evicted, in which order, and the state after a kill."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher.artifacts.eviction import YOUNG_S, EvictionPolicy, Slow, parse_bytes
from searcher.artifacts.store import place_artifact
from searcher.errors import UserError
from searcher.ledger.store import LedgerFull, Store
from searcher.ledger.tables import artifacts, builds, campaigns, jobs, trials
from searcher.spec.recipe import Recipe
from tests.searcher_tests.dispatch.laboratory import SPEC, recipe
from tests.stored_rows import is_dropped

NOW_S = 1_000_000.0
KB = 1000


class Disk:
    """A folder whose files have an age chosen by the test, and its eviction."""

    def __init__(self, folder: Path, bound_bytes: int | None) -> None:
        self.folder = folder
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)
        self.store = Store(folder / "ledger.db")
        self.db = self.store.db
        self.now_s = NOW_S
        self.keeping = self.restarted(bound_bytes)
        campaigns.create(self.db, "digits", SPEC, 1.0)
        self.job = jobs.create(self.db, "key", "compress", "builder", "digits", {}, 0, 1.0)
        self.db.execute("UPDATE jobs SET state = 'done'")

    def restarted(self, bound_bytes: int | None) -> EvictionPolicy:
        return EvictionPolicy(self.store, self.folder, lambda: self.now_s, bound_bytes,
                       wall_s=lambda: self.now_s)

    def artifact(self, number: int, size: int = KB, age_s: float = 5000.0,
                 made: Recipe | None = None) -> str:
        """A built file; ``number`` selects its recipe unless ``made`` is given."""
        path = place_artifact(self.folder / "artifacts", f"{number:04}".encode() * (size // 4))
        os.utime(path, (self.now_s - age_s,) * 2)
        made = made or recipe(number)
        builds.put_recipe(self.db, made.hash, made.as_list())
        builds.put_artifact(self.db, path.name, size, self.now_s - age_s)
        builds.put(self.db, f"key-{number}", "task", made.hash, 0, "full", path.name, size, "g",
                   {}, self.job, self.now_s - age_s)
        return path.name

    def cached(self, name: str, size: int = KB, age_s: float = 5000.0) -> Path:
        file = self.folder / "builds" / name / "state.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * size)
        os.utime(file, (self.now_s - age_s,) * 2)
        return file

    def there(self, *names: str) -> list[bool]:
        found = [(self.folder / "artifacts" / name).exists() for name in names]
        assert found == [not is_dropped(self.db, name) for name in names]
        return found

    def run(self, steps: Iterator[Slow | None] | None = None) -> int:
        """Runs a whole pass; returns the number of steps."""
        count = 0
        for slow in self.keeping.steps() if steps is None else steps:
            count += 1
            if slow is not None:
                slow()
        return count


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path, 10 * KB)
    yield made
    made.store.close()


@pytest.mark.parametrize(("text", "size"), [
    ("50GB", 50 * 10**9), ("1.5 GiB", 3 * 2**29), ("800mb", 8 * 10**8), ("1234", 1234),
    (" 2 KB ", 2000), ("7B", 7), ("1TB", 10**12)])
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "50 parsecs", "1e9", "0", "0.4B", "5 0GB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UserError, match="50GB|at least 1 byte"):
        parse_bytes(text)


def test_within_the_bound_nothing_happens(disk: Disk) -> None:
    names = [disk.artifact(number) for number in range(10)]
    disk.run()
    assert all(disk.there(*names)) and disk.keeping.total_bytes == 10 * KB


def test_the_oldest_go_until_the_bound_holds(disk: Disk) -> None:
    names = [disk.artifact(number) for number in range(14)]
    disk.run()
    assert disk.there(*names) == [False] * 5 + [True] * 9
    assert disk.keeping.total_bytes == 9 * KB <= 0.95 * 10 * KB
    assert not disk.keeping.due
    assert sorted(p.name for p in (disk.folder / "artifacts").iterdir()) == sorted(names[5:])


def test_a_pass_is_many_small_steps(disk: Disk) -> None:
    for number in range(300):
        disk.artifact(number)
    assert disk.run() > 2 * 300 // 64
    assert disk.keeping.total_bytes <= 9.5 * KB


def test_without_a_bound_everything_stays(disk: Disk) -> None:
    names = [disk.artifact(number) for number in range(20)]
    disk.keeping = disk.restarted(None)
    disk.run()
    assert all(disk.there(*names)) and not disk.keeping.grew(10**12)


def test_running_trials_baselines_and_jobs_keep_their_files(disk: Disk) -> None:
    running, baseline, queued, model = (disk.artifact(n) for n in range(4, 8))
    baseline = disk.artifact(99, made=Recipe())
    trials.create(disk.db, "digits", "tx2", recipe(4).hash, {}, {}, 2.0)
    jobs.create(disk.db, "q", "evaluate", "builder", None, {"sha256": queued}, 0, 1.0)
    campaigns.create(disk.db, "own", {"name": "own", "task": model}, 1.0)
    others = [disk.artifact(number) for number in range(10, 30)]
    disk.run()
    assert all(disk.there(running, baseline, queued, model))
    assert disk.there(*others).count(True) == 5 == sum(disk.there(*others[-5:]))


def test_young_files_stay_and_are_looked_at_later(
        disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    names = [disk.artifact(number, age_s=10.0) for number in range(14)]
    disk.run()
    assert all(disk.there(*names))
    [warning] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "10000" in warning.getMessage() and "14000" in warning.getMessage()
    assert not disk.keeping.grew(10), "not again for every file"
    disk.now_s += YOUNG_S
    assert disk.keeping.due
    disk.run()
    assert disk.there(*names).count(True) == 9


def test_what_must_stay_is_more_than_the_bound(
        disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    names = [disk.artifact(number) for number in range(14)]
    for number in range(12):
        trials.create(disk.db, "digits", "tx2", recipe(number).hash, {}, {}, 2.0)
    disk.cached("key-3")
    disk.cached("unknown")
    disk.run()
    assert disk.there(*names) == [True] * 12 + [False] * 2
    assert disk.keeping.cache_bytes == 0, "the last resort"
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 1 and "10000" in said[0] and "12000" in said[0]
    disk.now_s += YOUNG_S
    disk.run()
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


def test_the_builders_cache_goes_by_its_last_use(disk: Disk) -> None:
    old, new = disk.cached("old", age_s=9000.0), disk.cached("new", age_s=4000.0)
    trained = disk.cached("key-50", age_s=90_000.0)
    disk.artifact(50)
    trials.create(disk.db, "digits", "tx2", recipe(50).hash, {}, {}, 2.0)
    names = [disk.artifact(number) for number in range(8)]
    disk.run()
    assert not old.parent.exists() and trained.exists(), "a running trial's goes last"
    assert new.exists() and disk.there(*names) == [False] * 2 + [True] * 6
    assert disk.keeping.total_bytes == 9 * KB


def test_a_builder_that_writes_keeps_its_folder(disk: Disk) -> None:
    disk.artifact(0, size=20 * KB, age_s=1.0)
    state = disk.cached("busy", age_s=9000.0)
    partial = state.with_suffix(".77.partial")
    partial.write_bytes(b"half")
    os.utime(partial, (1.0, 1.0))
    disk.run()
    assert partial.exists() and not state.exists()


def test_scratch_files_go_once_their_builder_is_done(disk: Disk) -> None:
    disk.artifact(0, size=20 * KB, age_s=1.0)
    old, used = disk.cached("scratch/71", age_s=9000.0), disk.cached("scratch/72", age_s=3.0)
    (old.parent / "folder").mkdir()
    disk.run()
    assert not old.exists() and used.exists()


def test_totals_are_carried_along(disk: Disk) -> None:
    disk.run(disk.keeping.begin())
    assert disk.keeping.total_bytes == 0
    assert not disk.keeping.grew(9 * KB)
    assert not disk.keeping.grew(0, 1 * KB)
    assert disk.keeping.grew(0, 1)
    assert (disk.keeping.artifact_bytes, disk.keeping.cache_bytes) == (9 * KB, KB + 1)


def test_a_file_that_arrives_while_the_disk_is_counted(disk: Disk) -> None:
    disk.artifact(0)
    counting = disk.keeping.begin()
    for slow in counting:
        if slow is not None:
            slow()
        disk.keeping.grew(7, 5)
    assert disk.keeping.artifact_bytes >= KB + 7 and disk.keeping.cache_bytes >= 5


def killed_at(disk: Disk, monkeypatch: pytest.MonkeyPatch, method: str) -> list[str]:
    """A pass over 14 files that dies at the first call of ``Path.<method>``."""
    names = [disk.artifact(number) for number in range(14)]

    def die(self: Path, *target: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, die)
        with pytest.raises(KeyboardInterrupt):
            disk.run()
    return names


def test_killed_between_commit_and_file(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    names = killed_at(disk, monkeypatch, "rename")
    assert all((disk.folder / "artifacts" / name).exists() for name in names)
    assert any(is_dropped(disk.db, name) for name in names)
    disk.keeping = disk.restarted(10 * KB)
    disk.run(disk.keeping.begin())
    assert all(disk.there(*names)), "found again"
    disk.run()
    assert disk.there(*names).count(True) == 9


def test_killed_before_the_bytes_are_given_back(
        disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    names = killed_at(disk, monkeypatch, "unlink")
    (disk.folder / "artifacts" / f".{'a' * 64}.99").write_bytes(b"half")
    upload = disk.folder / "artifacts" / ".upload-1"
    upload.write_bytes(b"another's")
    disk.keeping = disk.restarted(10 * KB)
    disk.run(disk.keeping.begin())
    assert disk.there(*names) == [False] + [True] * 13
    left = {p.name for p in (disk.folder / "artifacts").iterdir()}
    assert left == {*names[1:], ".upload-1"}


def test_a_file_touched_in_the_last_moment_stays(
        disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder stores the same file while it is dropped."""
    names = [disk.artifact(number) for number in range(14)]
    drop = artifacts.drop

    def late(db: object, chosen: list[str], now_s: float) -> None:
        drop(disk.db, chosen, now_s)
        disk.keeping.touch(disk.folder / "artifacts" / names[0])

    monkeypatch.setattr(artifacts, "drop", late)
    disk.run()
    assert disk.there(names[0], names[1]) == [True, False]


def test_a_file_wanted_while_a_pass_runs_stays(disk: Disk) -> None:
    names = [disk.artifact(number) for number in range(14)]
    steps = disk.keeping.steps()
    for slow in steps:
        if slow is not None:
            slow()
            break
    disk.keeping.touch(disk.folder / "artifacts" / names[0])
    disk.run(steps)
    assert disk.there(names[0], names[1]) == [True, False]


def test_a_full_ledger_still_lets_the_cache_go(
        disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [disk.artifact(number) for number in range(8)]
    cached = [disk.cached(f"c{number}", age_s=10.0) for number in range(6)]

    def full(*_: object) -> None:
        raise LedgerFull("no room")

    monkeypatch.setattr(artifacts, "drop", full)
    disk.run()
    assert all(disk.there(*names)) and sum(c.exists() for c in cached) == 1


def test_a_dropped_file_that_comes_back_is_known_again(disk: Disk) -> None:
    names = [disk.artifact(number) for number in range(14)]
    disk.run()
    assert disk.artifact(0) == names[0]
    assert disk.there(names[0]) == [True]
