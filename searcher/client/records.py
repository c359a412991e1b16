"""Answers of the coordinator's API as dataclasses, which ``searcher.client.http`` parses."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from searcher.ledger.rows import CampaignRow, DeviceRow, TokenRow, TrialRow
from searcher.ledger.tables.jobs import ENDED
from searcher.ledger.tables.search_state import SearchState
from searcher.spec.recipe import Recipe, Value


@dataclass(frozen=True)
class Job:
    """A job.

    ``result`` is set if it is done, ``reason`` and ``message`` if it failed or was cancelled.
    ``seq`` numbers ended jobs in the order of their ends. ``took_s`` are the seconds since its
    first lease, for one that has ended.
    """

    job: int
    state: str
    key: str = ""
    kind: str = ""
    pool: str = ""
    attempt: int = 0
    progress: float | None = None
    result: Mapping[str, object] | None = None
    reason: str | None = None
    message: str | None = None
    seq: int | None = None
    took_s: float | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def why(self) -> str:
        """Why the job is not done: its message, else its reason, else its state."""
        return self.message or self.reason or self.state


@dataclass(frozen=True)
class FinishedJobs:
    """Jobs that ended. ``seq`` is the value of ``after`` for the next request."""

    jobs: tuple[Job, ...]
    seq: int


@dataclass(frozen=True)
class CampaignRecord(CampaignRow):
    """A campaign.

    ``trials`` and ``jobs`` are numbers by state, ``failures`` numbers of failed trials by reason.
    ``search_states`` are by device.
    """

    trials: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    search_states: Mapping[str, SearchState] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Device(DeviceRow):
    """A device. ``job`` is its present job. The ``state`` ``drained`` is draining without a job."""

    job: int | None = None
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Token(TokenRow):
    """A token. ``token`` is the secret, returned once. ``state`` is active, expired or revoked."""

    state: str = "active"
    token: str | None = None


@dataclass(frozen=True)
class Enrolment:
    """A one-time token with which ``name`` enrols.

    ``agent_sha256`` is the digest of /agent.pyz, ``fingerprint`` that of the certificate to pin,
    ``advertised`` the URL of the coordinator for devices.
    """

    name: str
    role: str
    token: str
    expires_s: float
    agent_sha256: str
    fingerprint: str | None
    advertised: str | None


@dataclass(frozen=True)
class Trial(TrialRow):
    """A trial. ``steps`` are those of its recipe. ``measured``: whether the measurement is of the
    trial's own file."""

    steps: tuple[Mapping[str, Value], ...] = ()
    measured: bool = False
    created: bool = False

    @property
    def built_from(self) -> Recipe:
        """The recipe. The field ``recipe`` is its hash."""
        return Recipe.from_list(self.steps)


@dataclass(frozen=True)
class TrialPage:
    """A page of trials, oldest first."""

    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Address:
    """The address that a coordinator writes into its folder.

    ``advertised`` is its URL for devices. ``daemon``: whether campaigns may be submitted.
    """

    url: str
    token: str
    pid: int
    fingerprint: str | None = None
    advertised: str | None = None
    daemon: bool = False
