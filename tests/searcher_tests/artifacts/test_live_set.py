"""Rules that select the files to keep."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searcher.artifacts.live_set import Points, _bounds, live_files, undecided
from searcher.ledger.tables import artifacts, campaigns, jobs, search_state, trials
from searcher.ledger.tables.artifacts import CompleteTrial
from searcher.pareto.front import front_indices, losses
from searcher.spec.objectives import Objective
from tests.searcher_tests.filled import DEVICE, Folder, recipe

OBJECTIVES = (search_state.BEFORE_METRICS.objective, Objective("latency_s", "minimize"))


def ended(steps: Generator[None, None, Any]) -> Any:
    """The return value of a generator."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def point(accuracy: float, latency_s: float, noise: float = 0.0) -> CompleteTrial:
    return CompleteTrial(1, "tx2", f"{accuracy} {latency_s}", {
        "accuracy": accuracy, "latency_s": latency_s},
        {"accuracy": [accuracy - noise, accuracy + noise]} if noise else {}, {}, True)


def kept(*points: CompleteTrial) -> list[int]:
    collected = Points()
    for index, one in enumerate(points):
        collected.add(str(index), _bounds(one, OBJECTIVES))
    return sorted(map(int, ended(undecided(collected))))


def test_a_point_that_is_surely_beaten_goes() -> None:
    assert kept(point(0.9, 1.0), point(0.8, 2.0)) == [0]
    assert kept(point(0.9, 1.0), point(0.8, 0.5)) == [0, 1]


def test_a_point_whose_interval_overlaps_stays() -> None:
    assert kept(point(0.90, 1.0, 0.01), point(0.89, 2.0, 0.01)) == [0, 1]
    assert kept(point(0.90, 1.0, 0.01), point(0.87, 2.0, 0.01)) == [0]


@given(st.lists(st.tuples(
    st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.0, 0.02, 0.2])), min_size=1,
    max_size=30))
def test_the_front_stays_and_who_is_beaten_at_its_best_goes(
        drawn: list[tuple[int, int, float]]) -> None:
    points = [point(a / 10, float(b), noise) for a, b, noise in drawn]
    stay = set(kept(*points))
    assert set(front_indices([losses(p.values, OBJECTIVES) for p in points])) <= stay
    for index in set(range(len(points))) - stay:
        best = points[index]
        high = best.intervals.get("accuracy", [0, best.values["accuracy"]])[1]
        assert any(
            points[q].values["latency_s"] <= best.values["latency_s"]
            and points[q].intervals.get("accuracy", [points[q].values["accuracy"]])[0] >= high
            for q in stay)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def file_of(folder: Folder, number: int, campaign: str = "digits") -> str:
    [row] = folder.db.query(
        "SELECT sha256 FROM trials WHERE campaign = ? AND number = ?", [campaign, number])
    return str(row["sha256"])


def test_fronts_of_every_campaign_undecided_points_and_baselines(folder: Folder) -> None:
    for name in ("digits", "more"):
        folder.campaign(name)
        folder.trial(0, campaign=name)
        folder.trial(1, campaign=name, accuracy=0.98, ratio=0.25, file_bytes=500)
        folder.trial(2, campaign=name, accuracy=0.975, ratio=0.6, file_bytes=1500)
        folder.trial(3, campaign=name, accuracy=0.60, ratio=0.7, file_bytes=1600)
        folder.trial(4, "pruned", campaign=name, measured=False, reason="too slow")
        folder.trial(5, campaign=name, accuracy=0.96, ratio=0.1, file_bytes=100, broken=True)
        folder.trial(6, campaign=name, measured=False, reason="beaten", ratio=0.01)
    stay = ended(live_files(folder.db))
    known = search_state.get(folder.db, "digits", DEVICE)
    assert known is not None
    assert stay == {known.baseline.sha256, *(
        file_of(folder, number, name) for name in ("digits", "more") for number in (0, 1, 2))}
    folder.close()


def test_each_device_has_a_front_of_its_own(folder: Folder) -> None:
    folder.campaign()
    folder.trial(0)
    folder.trial(1, accuracy=0.60, ratio=0.7, file_bytes=1600)
    assert file_of(folder, 1) not in ended(live_files(folder.db))
    state = search_state.get(folder.db, "digits", DEVICE)
    assert state is not None
    search_state.put(folder.db, "digits", "tx2", state, 1.0)
    folder.db.execute("UPDATE trials SET device = 'tx2' WHERE number = 1")
    assert file_of(folder, 1) in ended(live_files(folder.db))


def test_a_front_whose_best_is_the_smallest(folder: Folder) -> None:
    """Of a metric that is minimized, 0.985 is worse than 0.60."""
    folder.campaign()
    folder.trial(0)
    folder.trial(1, accuracy=0.60, ratio=0.4, file_bytes=900)
    state = search_state.get(folder.db, "digits", DEVICE)
    assert state is not None
    quality = replace(state.quality, direction="minimize")
    search_state.put(folder.db, "digits", DEVICE, replace(state, quality=quality), 1.0)
    stay = ended(live_files(folder.db))
    assert file_of(folder, 1) in stay and file_of(folder, 0) not in stay
    folder.close()


def test_a_campaign_that_is_not_understood_keeps_every_complete_file(folder: Folder) -> None:
    folder.campaign(baseline=False)
    folder.trial(0)
    folder.trial(1, accuracy=0.60, ratio=0.7, file_bytes=1600)
    folder.db.execute("""UPDATE campaigns SET spec = '{"name": "digits", "from": "tomorrow"}'""")
    assert ended(live_files(folder.db)) == {file_of(folder, 0), file_of(folder, 1)}
    folder.close()


def test_what_unfinished_jobs_and_campaigns_name(folder: Folder) -> None:
    queued, leased, done, model = ("1" * 64, "2" * 64, "3" * 64, "4" * 64)
    for state, sha256 in (("queued", queued), ("leased", leased), ("done", done)):
        job = jobs.create(folder.db, sha256, "evaluate", "builder", None, {"sha256": sha256}, 0,
                          1.0)
        folder.db.execute("UPDATE jobs SET state = ? WHERE id = ?", [state, job])
    campaigns.create(folder.db, "own", {"name": "own", "task": f"upload:{model}"}, 1.0)
    assert ended(live_files(folder.db)) == {queued, leased, model}
    folder.close()


def test_running_trials_and_baselines_are_known_by_their_recipe(folder: Folder) -> None:
    folder.campaign(baseline=False)
    folder.trial(0)
    sha256 = file_of(folder, 0)

    def worked(baseline: str = "-", since_s: float = 100.0) -> set[str]:
        return artifacts.of_work(folder.db, [sha256, "5" * 64], baseline, since_s)

    assert worked() == set()
    assert worked(since_s=9.0) == {sha256}, "it ended since"
    assert worked(baseline=recipe(0).hash) == {sha256}
    assert artifacts.builds_in_use(folder.db, [f"build-{sha256}", "x"], recipe(0).hash) == {
        f"build-{sha256}"}
    trials.create(folder.db, "digits", "tx2", recipe(0).hash, {}, {}, 2.0)
    folder.db.execute("UPDATE campaigns SET state = 'failed'")
    assert worked() == {sha256}, "it may be taken up again"
    assert artifacts.builds_in_use(folder.db, [f"build-{sha256}"], "-") == {f"build-{sha256}"}
    folder.db.execute("UPDATE campaigns SET state = 'cancelled'")
    assert worked() == set() == artifacts.builds_in_use(folder.db, [f"build-{sha256}"], "-")
    folder.close()
