"""Request bodies of people and searches, validated with pydantic."""

from typing import Annotated, Any, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
)

from searcher.ledger.rows import TrialParameters, text

LARGEST = 2**53
LONGEST_POLL_S = 50.0
Number = Annotated[int, Field(ge=0, le=LARGEST)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _storable(value: str) -> str:
    return value.encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    """Refuse NaN, which Python's JSON parser accepts and the ledger does not."""
    try:
        text(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


Text = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_storable)]
Document = Annotated[dict[str, Any], AfterValidator(_plain)]
Documents = Annotated[list[dict[str, Any]], AfterValidator(_plain), Field(max_length=64)]

Duration = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


Checked = TypeVar("Checked", bound=BaseModel)


def checked(kind: type[Checked], given: Any, where: str) -> Checked:
    """Parse ``given`` as ``kind``. Raises RequestValidationError, which says ``where``."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError([
            {**one, "loc": (where, *one["loc"])} for one in error.errors()]) from error


class CampaignState(_Request):
    state: Literal["queued", "running", "paused", "done", "failed", "cancelled"]
    reason: Text | None = None


Priority = Annotated[int, Field(ge=-1000, le=1000)]


class CampaignPriority(_Request):
    priority: Priority


class JobSubmission(_Request):
    kind: Annotated[str, StringConstraints(max_length=40)]
    pool: Annotated[str, StringConstraints(max_length=120)]
    payload: Document
    campaign: Name | None = None
    priority: Priority = 0
    retry: bool = False
    queue_s: Duration | None = None


class Cancellation(_Request):
    """The kinds of jobs to cancel; empty: all."""

    kinds: Annotated[list[str], Field(max_length=20)] = Field(default_factory=list)


class FinishedAfter(BaseModel):
    """Asks for jobs that ended after number ``after``; waits up to ``wait_s`` for the first."""

    after: Number = 0
    wait_s: Annotated[float, Field(ge=0, le=LONGEST_POLL_S, allow_inf_nan=False)] = 20.0


class TrialCreation(_Request):
    """``recipe`` must be the hash of ``steps``: it proves that both sides hash alike."""

    device: Name
    recipe: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    steps: Documents
    options: Document = Field(default_factory=dict)
    parameters: TrialParameters = Field(default_factory=TrialParameters)


class TrialTelling(_Request):
    """Fields that are absent remain unchanged."""

    state: Literal["running", "complete", "pruned", "failed"]
    values: dict[str, FiniteFloat] | None = None
    intervals: dict[str, tuple[FiniteFloat, FiniteFloat]] | None = None
    constraints: dict[str, FiniteFloat] | None = None
    reason: Text | None = None
    message: Text | None = None
    sha256: Sha256 | None = None
    evaluations: Annotated[list[Number], Field(max_length=16)] | None = None
    measurement: Number | None = None


class EnrolmentRequest(_Request):
    name: Name
    role: Literal["agent", "builder"] = "agent"
    profile: Name | None = None
    ttl_s: Annotated[float, Field(gt=0, le=30 * 86_400, allow_inf_nan=False)] = 3600.0


class DeviceState(_Request):
    state: Literal["active", "draining", "quarantined", "removed"]
    reason: Text | None = None


class TokenRequest(_Request):
    """Without ``ttl_s`` the token works until it is revoked."""

    name: Name
    role: Literal["operator", "viewer"]
    ttl_s: Duration | None = None
