"""The state of a search, per campaign and device, with which it continues after a restart."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlite_utils import Database

from searcher.documents import parse, plain
from searcher.ledger.rows import text
from searcher.spec.objectives import Quality

Values = Mapping[str, int | float]
"""By the names of figures; ``int`` is named, so that bytes stay whole numbers when parsed."""
Intervals = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class FileRef:
    """A file, identified by its content."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class DeviceQuality:
    """The metric of the baseline as computed by the device.

    ``place`` is device, runtime and provider. ``why`` says why the figures of the host do not
    apply. ``inputs`` are the files of the splits.
    """

    place: str
    why: str
    inputs: Mapping[str, FileRef]
    values: Values
    intervals: Intervals


@dataclass(frozen=True)
class BaselineState:
    """The measured baseline. ``on_device`` is None where the host's metric also applies."""

    sha256: str
    file_bytes: int
    quiet_level_s: float
    values: Values
    intervals: Intervals
    measurement: int | None = None
    on_device: DeviceQuality | None = None


@dataclass(frozen=True)
class JointEntry:
    """Figures of one trial from the joint measurement of the front. ``reason`` says why they are
    missing or do not count."""

    sha256: str
    values: Values | None = None
    intervals: Intervals | None = None
    constraints: Values | None = None
    measurement: int | None = None
    reason: str | None = None


BEFORE_METRICS = Quality("accuracy", "accuracy", "share", "maximize", 1.0)
"""The quality of a search whose state names none: an older version stored it."""

JointMeasurement = Mapping[int, JointEntry]
"""Joint entries by trial id."""


@dataclass(frozen=True)
class TrainedState:
    """A candidate with a quality that is not finished yet. ``slack`` as in ``search.candidate``."""

    values: Values
    intervals: Intervals
    slack: float
    measurement: int | None = None


@dataclass(frozen=True)
class TrainingOutcome:
    """What training to the fidelity ``after`` made of the quality drop that ``trial`` had at
    ``before``, both relative to the quality's scale. ``took_s`` is 0 where another outcome of the
    same training has its seconds."""

    trial: int
    before: str
    drop: float
    after: str
    reached: float
    macs_share: float
    took_s: float = 0.0


@dataclass(frozen=True)
class TaskFacts:
    """What the check of a task found.

    ``parts`` are digests of what ``digest`` covers, by name (configuration, weights, and the data
    of each split): they say what changed. ``metric`` is the metric with its parameters.
    ``baseline_epochs`` is the least and the largest number of epochs of a baseline that is trained
    by the recipe, None for a model that is the baseline as given. ``step_s`` and ``epoch_s`` are
    the seconds of one training step and of one epoch on one thread. ``data_bytes`` is the memory
    that the data of all splits take, or may take where they are read lazily.
    """

    digest: str
    parts: Mapping[str, str]
    metric: str
    samples: Mapping[str, int]
    epochs: Mapping[str, int]
    baseline_epochs: tuple[int, int] | None
    parameters: int
    file_bytes: int
    step_s: float
    epoch_s: float
    data_bytes: int


@dataclass(frozen=True)
class SearchState:
    """The checkpoint of a search.

    ``baseline_s`` and ``searched_s`` are the seconds spent so far. ``extended`` are the trials
    whose extended training has begun; ``trained`` are trained but unfinished candidates by trial,
    ``repaired`` the figures of unfinished candidates before any training. ``trainings`` are what
    the search learnt of trainings; ``epochs`` those of each fidelity, where the search chose them.
    ``scans`` are the jobs whose results say what each layer loses, by strategy.
    ``quality`` is the metric by which candidates are judged.
    ``task`` is None in states of versions that did not check tasks.
    """

    baseline: BaselineState
    baseline_s: float = 0.0
    searched_s: float = 0.0
    joint: JointMeasurement = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extended: tuple[int, ...] = ()
    trained: Mapping[int, TrainedState] = field(default_factory=dict)
    quality: Quality = BEFORE_METRICS
    task: TaskFacts | None = None
    repaired: Mapping[int, TrainedState] = field(default_factory=dict)
    trainings: tuple[TrainingOutcome, ...] = ()
    epochs: Mapping[str, int] = field(default_factory=dict)
    scans: Mapping[str, int] = field(default_factory=dict)


def get(db: Database, campaign: str, device: str) -> SearchState | None:
    row = db.execute("SELECT state FROM search_state WHERE campaign = ? AND device = ?",
                     [campaign, device]).fetchone()
    return None if row is None else parse(SearchState, json.loads(row[0]))


def of_campaign(db: Database, campaign: str) -> dict[str, SearchState]:
    """The states of a campaign by device."""
    return {device: parse(SearchState, json.loads(state)) for device, state in db.execute(
        "SELECT device, state FROM search_state WHERE campaign = ? ORDER BY device", [campaign])}


def put(db: Database, campaign: str, device: str, state: SearchState, now_s: float) -> None:
    db.execute("INSERT OR REPLACE INTO search_state VALUES (?, ?, ?, ?)",
               [campaign, device, text(plain(state)), now_s])
