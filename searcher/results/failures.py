"""Why candidates failed: the reason in a word or phrase, and the whole message."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from searcher.ledger.rows import TrialRow


@dataclass(frozen=True)
class CandidateFailure:
    """``reason`` and ``message`` as the ledger has them: the message of a builder names the step
    and the layers, that of a measurement the device; None where an older version stored none."""

    candidate: str
    reason: str
    message: str | None

    @property
    def text(self) -> str:
        return whole_text(self.reason, self.message)

    def as_document(self) -> dict[str, object]:
        return {"candidate": self.candidate, "reason": self.reason, "message": self.message}


def whole_text(reason: str, message: str | None) -> str:
    """Reason and message in one text, each once."""
    if message is None or reason == message:
        return reason
    return message if reason in message else f"{reason}: {message}"


def failures_of(trials: Iterable[TrialRow]) -> tuple[CandidateFailure, ...]:
    return tuple(CandidateFailure(f"{t.campaign}/{t.number}", t.reason or "unknown", t.message)
                 for t in trials if t.state == "failed")


def counts_text(failures: Mapping[str, int]) -> str:
    """``nan_loss 3, quarantined 1``"""
    return ", ".join(f"{reason} {count}" for reason, count in failures.items())
