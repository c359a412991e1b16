"""What the coordinator's API answers, as dataclasses; parsed in ``searcher.client.http``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from searcher.ledger.rows import CampaignRow, DeviceRow, TokenRow, TrialRow
from searcher.ledger.tables.jobs import ENDED
from searcher.ledger.tables.search_state import SearchState
from searcher.spec.recipe import Recipe, Value


@dataclass(frozen=True)
class Job:
    """``result`` is there when done, ``reason`` and ``message`` when not; ``seq`` numbers the jobs
    that ended."""

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

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def why(self) -> str:
        """Why it is not done, as fully as it is known."""
        return self.message or self.reason or self.state


@dataclass(frozen=True)
class FinishedJobs:
    """Jobs that ended, and the number to ask with next."""

    jobs: tuple[Job, ...]
    seq: int


@dataclass(frozen=True)
class CampaignRecord(CampaignRow):
    """``trials`` and ``jobs`` count them by state, ``failures`` the failed trials by reason;
    ``search_states`` by device."""

    trials: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    search_states: Mapping[str, SearchState] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Device(DeviceRow):
    """``job`` is what the device works on; a ``state`` of ``drained`` is draining without one."""

    job: int | None = None
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Token(TokenRow):
    """``token`` is the secret itself, shown once; ``state`` is active, expired or revoked."""

    state: str = "active"
    token: str | None = None


@dataclass(frozen=True)
class Enrolment:
    """A one-time token with which ``name`` enrols, and what a device needs: the digest of
    /agent.pyz, what to pin of the certificate, the URL under which it finds the coordinator."""

    name: str
    role: str
    token: str
    expires_s: float
    agent_sha256: str
    fingerprint: str | None
    advertised: str | None


@dataclass(frozen=True)
class Trial(TrialRow):
    """``steps`` of the recipe; ``measured``: whether the measurement is of the trial's own file."""

    steps: tuple[Mapping[str, Value], ...] = ()
    measured: bool = False
    created: bool = False

    @property
    def built_from(self) -> Recipe:
        """The recipe itself; ``recipe`` is its hash."""
        return Recipe.from_list(self.steps)


@dataclass(frozen=True)
class Address:
    """What a coordinator writes into its folder: how to reach it, and whether it is a daemon, to
    which campaigns may be submitted."""

    url: str
    token: str
    pid: int
    fingerprint: str | None = None
    advertised: str | None = None
    daemon: bool = False
