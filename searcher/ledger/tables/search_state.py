"""What a search knows of one campaign on one device, and what it goes on from after a restart."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlite_utils import Database

from searcher.documents import parse, plain
from searcher.ledger.rows import text

Values = Mapping[str, float]
Intervals = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class FileRef:
    """A file by content, as requests name it."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class DeviceAccuracy:
    """Accuracies of the baseline that the device computed: ``place`` is device, runtime and
    provider, ``why`` the host's are not its own, ``inputs`` the files of the splits."""

    place: str
    why: str
    inputs: Mapping[str, FileRef]
    values: Values
    intervals: Intervals


@dataclass(frozen=True)
class BaselineState:
    """The measured baseline. ``on_device`` is None where the host's accuracy is the device's."""

    sha256: str
    file_bytes: int
    quiet_level_s: float
    values: Values
    intervals: Intervals
    measurement: int | None = None
    on_device: DeviceAccuracy | None = None


@dataclass(frozen=True)
class JointEntry:
    """Figures of one trial from the joint measurement of the front; ``reason`` says why there are
    none, or why they do not count."""

    sha256: str
    values: Values | None = None
    intervals: Intervals | None = None
    constraints: Values | None = None
    measurement: int | None = None
    reason: str | None = None


JointMeasurement = Mapping[int, JointEntry]
"""By the trial's id."""


@dataclass(frozen=True)
class TrainedState:
    """A trained candidate that waits for its measurement. ``slack`` as in ``search.candidate``."""

    values: Values
    intervals: Intervals
    slack: float
    measurement: int | None = None


@dataclass(frozen=True)
class SearchState:
    """The checkpoint of a search: ``baseline_s`` and ``searched_s`` are seconds spent, ``extended``
    the trials whose extended training began, ``trained`` those that were trained and are not
    finished, by trial."""

    baseline: BaselineState
    baseline_s: float = 0.0
    searched_s: float = 0.0
    joint: JointMeasurement = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extended: tuple[int, ...] = ()
    trained: Mapping[int, TrainedState] = field(default_factory=dict)


def get(db: Database, campaign: str, device: str) -> SearchState | None:
    row = db.execute("SELECT state FROM search_state WHERE campaign = ? AND device = ?",
                     [campaign, device]).fetchone()
    return None if row is None else parse(SearchState, json.loads(row[0]))


def of_campaign(db: Database, campaign: str) -> dict[str, SearchState]:
    """By device."""
    return {device: parse(SearchState, json.loads(state)) for device, state in db.execute(
        "SELECT device, state FROM search_state WHERE campaign = ? ORDER BY device", [campaign])}


def put(db: Database, campaign: str, device: str, state: SearchState, now_s: float) -> None:
    db.execute("INSERT OR REPLACE INTO search_state VALUES (?, ?, ?, ?)",
               [campaign, device, text(plain(state)), now_s])
