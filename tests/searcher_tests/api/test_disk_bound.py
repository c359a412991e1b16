"""The disk limit in a running coordinator."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from searcher.api.app import create_app
from searcher.api.disk_bound import bound_disk
from searcher.api.http.long_poll import Notifications
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import Laboratory
from tests.stored_rows import is_dropped

PATIENCE_S = 60.0


def aged(lab: Laboratory) -> None:
    for path in (lab.folder / "artifacts").iterdir():
        os.utime(path, (1.0, 1.0))


def on_disk(lab: Laboratory) -> int:
    """Ignores files that are deleted meanwhile."""
    found = 0
    for path in (lab.folder / "artifacts").iterdir():
        with suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


async def until(state: Callable[[], bool]) -> None:
    for _ in range(3000):
        if state():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the state was not reached")


def test_results_that_exceed_the_bound_start_a_pass(tmp_path: Path) -> None:
    lab = Laboratory.open(tmp_path)
    builder = lab.builder()
    for number in range(8):
        lab.compress(number)
        lab.done(builder, lab.leased(builder))
    aged(lab)
    size = on_disk(lab)
    lab.coordinator.eviction_policy.bound_bytes = size + 10
    with LocalServer(create_app(lab.coordinator, "operator")) as server:
        server.run(until(lambda: lab.coordinator.eviction_policy.artifact_bytes == size))
        assert lab.store.db.execute(
            "SELECT count(*) FROM artifacts WHERE dropped_s IS NOT NULL").fetchone()[0] == 0
        lab.compress(8)
        lab.done(builder, lab.leased(builder))
        assert lab.coordinator.eviction_policy.due
        server.run(until(lambda: on_disk(lab) <= size + 10))
        first = next(lab.store.db.query("SELECT sha256 FROM artifacts ORDER BY rowid"))["sha256"]
        assert is_dropped(lab.store.db, first)
        assert not (tmp_path / "artifacts" / first).exists()
    lab.store.close()


def test_without_a_bound_there_is_nothing_to_do(tmp_path: Path) -> None:
    lab = Laboratory.open(tmp_path)
    (tmp_path / "artifacts" / f".dropped-{'a' * 64}").write_bytes(b"x")
    policy = lab.coordinator.eviction_policy
    asyncio.run(asyncio.wait_for(bound_disk(policy, Notifications()), PATIENCE_S))
    assert len(list((tmp_path / "artifacts").iterdir())) == 1
    lab.store.close()
