"""Ledgers of every schema version so far open, are brought up to date and keep their content."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from searcher.errors import LedgerError
from searcher.ledger.maintenance.integrity import check, tables_of
from searcher.ledger.migrations import stored_version
from searcher.ledger.read_only import open_any_version, open_ledger
from searcher.ledger.rows import text
from searcher.ledger.schema import VERSION
from searcher.ledger.store import Store
from searcher.ledger.tables import (
    builds,
    campaigns,
    devices,
    evaluations,
    jobs,
    measurements,
    search_state,
    spans,
    trials,
)
from searcher.ledger.tables.search_state import (
    BaselineState,
    FileRef,
    JointEntry,
    SearchState,
    TrainedState,
)
from searcher.statistics.score_codec import unpack
from tests.searcher_tests.dispatch.laboratory import RAILS, Laboratory
from tests.searcher_tests.ledger.damage import overwrite_middle
from tests.storage import make_v1, make_v2, make_v3, make_v4, make_v5
from tests.stored_rows import builds_of_recipe, is_dropped

STORED = {1: make_v1.STORED, 2: make_v2.STORED, 3: make_v3.STORED, 4: make_v4.STORED,
          5: make_v5.STORED}


@pytest.fixture(params=STORED)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    shutil.copy(STORED[request.param], path)
    return path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return Path(shutil.copy(make_v1.STORED, tmp_path / "ledger.db"))


def test_every_version_has_a_stored_ledger() -> None:
    assert sorted(STORED) == list(range(1, VERSION + 1))
    for version, path in STORED.items():
        with open_any_version(path) as db:
            assert stored_version(db) == version


def test_it_opens_and_keeps_its_content(stored: Path) -> None:
    store = Store(stored)
    db = store.db
    campaign = campaigns.get(db, "digits")
    assert campaign is not None and campaign.state == "running"
    told, running = trials.history(db, "digits")
    assert (told.state, told.values, running.state) == ("complete", {"accuracy": 0.75}, "running")
    measurement = measurements.get(db, told.measurement or 0)
    assert measurement is not None and measurement.verdict == "valid"
    samples = measurements.samples(db, measurement.id)
    assert samples is not None and len(samples.calls_ns) == 36
    [build] = builds_of_recipe(db, told.recipe)
    first = evaluations.of_file(db, build.sha256)[-1]
    assert (first.split, first.metric, first.encoding) == ("validation", "accuracy", "bits")
    assert first.task == "lenet5-mnist"
    assert first.scores is not None and len(unpack(first.scores, "bits", first.n)) == first.n
    assert [s.kind for s in spans.history(db)] == ["build", "measure"]
    assert jobs.counts(db, "digits") == {"done": 2, "queued": 1}
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    store.close()


def test_it_goes_on(stored: Path) -> None:
    lab = Laboratory.open(stored.parent)
    builder = lab.builder()
    lab.done(builder, lab.leased(builder))
    lab.store.close()


def test_version_2_keeps_what_the_daemon_added(tmp_path: Path) -> None:
    store = Store(Path(shutil.copy(make_v2.STORED, tmp_path / "ledger.db")))
    db = store.db
    campaign, device = campaigns.get(db, "digits"), devices.device(db, "local_cpu")
    assert campaign is not None and campaign.priority == 7
    assert device is not None
    assert (device.state, device.strikes, device.reason) == ("quarantined", 2, "two hangs")
    upload = builds.artifact(db, make_v2.UPLOADED)
    assert upload is not None
    assert (upload.origin, upload.inspection) == ("upload", {"opset": 13})
    [build] = builds_of_recipe(db, trials.history(db, "digits")[0].recipe)
    assert is_dropped(db, build.sha256)
    assert [row["name"] for row in db.query("SELECT * FROM tokens")] == ["reader"]
    assert [row["used_s"] for row in db.query(
        "SELECT * FROM shares WHERE pool = 'builder'")] == [12.5]
    assert [row["n"] for row in db.query(
        "SELECT count(*) AS n FROM jobs WHERE queue_until_s IS NOT NULL")] == [1]
    store.close()


def test_version_3_keeps_its_rails(tmp_path: Path) -> None:
    store = Store(Path(shutil.copy(make_v3.STORED, tmp_path / "ledger.db")))
    assert measurements.rails(store.db, 1) == RAILS
    store.close()


def test_version_4_keeps_the_state_of_its_search(tmp_path: Path) -> None:
    store = Store(Path(shutil.copy(make_v4.STORED, tmp_path / "ledger.db")))
    assert search_state.of_campaign(store.db, "digits") == {"tx2": make_v4.STATE}
    store.close()


def test_version_4_gets_the_names_of_other_metrics(tmp_path: Path) -> None:
    path = Path(shutil.copy(make_v4.STORED, tmp_path / "ledger.db"))
    told = {"accuracy": 0.75, "accuracy_drop": 0.02}
    message = text({"said": 'the key "accuracy_drop": of a text'})
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            """UPDATE trials SET "values" = ?, intervals = ?, constraints = ?, message = ?
               WHERE id = 1""",
            [text(told), text({"accuracy_drop": [0.01, 0.03], "latency_s": [1.0, 2.0]}),
             text({"accuracy_on_device": 1.0, "accuracy_drop": 0.01}), message])
        campaign = connection.execute("SELECT spec FROM campaigns").fetchone()
    store = Store(path)
    row = trials.get(store.db, 1)
    assert row is not None and row.values == {"accuracy": 0.75, "quality_drop": 0.02}
    assert row.intervals == {"quality_drop": [0.01, 0.03], "latency_s": [1.0, 2.0]}
    assert row.constraints == {"quality_on_device": 1.0, "quality_drop": 0.01}
    assert row.message == message
    assert store.db.execute("SELECT spec FROM campaigns").fetchone() == campaign
    state = search_state.of_campaign(store.db, "digits")["tx2"]
    assert state.quality == search_state.BEFORE_METRICS
    store.close()


def test_version_5_keeps_scores_and_labels(tmp_path: Path) -> None:
    store = Store(Path(shutil.copy(make_v5.STORED, tmp_path / "ledger.db")))
    db = store.db
    assert search_state.of_campaign(db, "digits") == {"tx2": make_v5.STATE}
    (sha256,) = db.execute("SELECT DISTINCT sha256 FROM evaluations").fetchone()
    here, there, _ = evaluations.of_file(db, sha256)
    assert here.metric == make_v5.QUALITY.metric and (here.low, here.high) == (2.0, 3.0)
    assert here.scores is not None and here.encoding == "uint8x2"
    assert (unpack(here.scores, here.encoding, here.n) == make_v5.SCORES).all()
    assert (there.value, there.scores, there.encoding, there.low) == (2.75, None, None, None)
    (labels,) = evaluations.labels(db, here.id)
    assert (labels.kind, tuple(labels.names), labels.n) == ("group", make_v5.NAMES, 4)
    assert (unpack(labels.codes, labels.encoding, labels.n) == make_v5.CODES).all()
    assert evaluations.labels(db, there.id) == []
    store.close()


def baseline_of_version_3(**more: object) -> dict[str, object]:
    """The column ``campaigns.baseline`` as version 3 had it."""
    return {"sha256": "b" * 64, "file_bytes": 900, "quiet_level_s": 0.001, "measurement": 1,
            "values": {"accuracy": 0.99}, "intervals": {"accuracy": [0.98, 1.0]},
            "baseline_s": 12.5, "searched_s": 30.0, "notes": ["a note"], "extended": [1],
            "together": {"1": {"sha256": "a" * 64, "values": {"latency_s": 0.0005},
                               "intervals": {}, "constraints": {}, "measurement": 1}},
            "trained": {"2": {"values": {"accuracy": 0.9}, "intervals": {}, "slack": 0.03,
                              "measurement": None}}, **more}


def migrated(tmp_path: Path, baseline: dict[str, object]) -> dict[str, SearchState]:
    path = Path(shutil.copy(make_v3.STORED, tmp_path / "ledger.db"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE campaigns SET baseline = ?", [text(baseline)])
    store = Store(path)
    found = search_state.of_campaign(store.db, "digits")
    store.close()
    return found


def test_the_baseline_of_version_3_becomes_the_state_of_its_device(tmp_path: Path) -> None:
    ((device, state),) = migrated(tmp_path, baseline_of_version_3()).items()
    assert device == "local_cpu"
    assert state.baseline == BaselineState(
        "b" * 64, 900, 0.001, {"accuracy": 0.99}, {"accuracy": [0.98, 1.0]}, 1)
    assert (state.baseline_s, state.searched_s, state.notes, state.extended) == (
        12.5, 30.0, ("a note",), (1,))
    assert state.joint == {1: JointEntry("a" * 64, {"latency_s": 0.0005}, {}, {}, 1)}
    assert state.trained == {2: TrainedState({"accuracy": 0.9}, {}, 0.03)}


def test_accuracies_of_the_device_stay_with_the_baseline(tmp_path: Path) -> None:
    there = {"place": "tx2/onnxruntime/x", "why": "float16", "values": {"accuracy": 0.9},
             "inputs": {"test": {"sha256": "c" * 64, "size_bytes": 3}},
             "intervals": {"accuracy": [0.8, 1.0]}}
    (state,) = migrated(tmp_path, baseline_of_version_3(on_device=there)).values()
    assert state.baseline.on_device is not None
    assert state.baseline.on_device.inputs == {"test": FileRef("c" * 64, 3)}


def test_a_baseline_without_figures_is_established_by_the_next_search(tmp_path: Path) -> None:
    assert migrated(tmp_path, {"sha256": "b" * 64}) == {}


@pytest.mark.parametrize("rails", [RAILS, []])
def test_rails_of_version_2_move_out_of_the_conditions(
    tmp_path: Path, rails: list[dict[str, object]]
) -> None:
    path = Path(shutil.copy(make_v2.STORED, tmp_path / "ledger.db"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE measurements SET conditions = ?", [text(
            {"steal_share": 0.0, "energy": {"gross_j": 0.5, "problem": "", "rails": rails}})])
    store = Store(path)
    row = measurements.get(store.db, 1)
    assert row is not None
    assert row.conditions == {"steal_share": 0.0, "energy": {"gross_j": 0.5, "problem": ""}}
    assert measurements.rails(store.db, 1) == rails
    assert store.db.execute("SELECT count(*) FROM rails").fetchone()[0] == len(rails)
    store.close()


def test_an_older_ledger_is_read_only_after_it_was_brought_up_to_date(first: Path) -> None:
    with pytest.raises(LedgerError, match="schema version 1.*fleetfront ledger check"), \
            open_ledger(first):
        pass
    report = check(first.parent)
    assert [f.found for f in report.findings if f.check == "version"] == [
        f"migrated from schema version 1 to {VERSION}"]
    with open_ledger(first) as db:
        assert trials.counts(db, "digits")["complete"] == 1


def test_a_damaged_ledger_is_not_migrated(first: Path) -> None:
    overwrite_middle(first)
    before = first.read_bytes()
    with pytest.raises(LedgerError, match=r"is damaged"):
        Store(first)
    with first.open("rb") as file:
        head = file.read(18)
        assert head == before[:18]
        file.seek(28)
        assert file.read() == before[28:], "but for the header's mark of WAL"


def test_a_migrated_ledger_has_the_tables_of_a_new_one(stored: Path, tmp_path: Path) -> None:
    fresh, old = Store(tmp_path / "fresh.db"), Store(stored)
    assert tables_of(fresh.db) == tables_of(old.db)
    fresh.close()
    old.close()
