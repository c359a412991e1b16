"""Everything about one candidate, and why it is or is not on the front."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from searcher.documents import parse
from searcher.jobs.build import GraphCosts
from searcher.ledger.rows import MeasurementRow
from searcher.ledger.tables import builds, measurements
from searcher.results.failures import whole_text
from searcher.results.front import Front
from searcher.results.scans import LayerStrength, layer_strengths
from searcher.results.view import Reading, StoredCandidate
from searcher.spec.objectives import Objective


@dataclass(frozen=True)
class CandidateDetails:
    """``fidelity`` and ``costs`` are those of its build, None where it has no file;
    ``measurements`` are all of its file, the newest first; ``why`` is one sentence. ``strengths``
    are the numbers of the recipe's tables."""

    candidate: StoredCandidate
    artifact: Path | None
    fidelity: str | None
    costs: GraphCosts | None
    measurements: Sequence[MeasurementRow]
    why: str
    strengths: Sequence[LayerStrength]

    @property
    def layers(self) -> Sequence[Mapping[str, object]]:
        return () if self.costs is None else self.costs.layers

    def as_document(self) -> dict[str, object]:
        """Plain JSON: what ``fleetfront show --format json`` prints."""
        found = self.candidate
        return {
            "candidate": found.name, "state": found.trial.state, "recipe": found.recipe.as_list(),
            "strengths": [asdict(one) for one in self.strengths],
            "values": dict(found.figures.values),
            "intervals": {name: list(ends) for name, ends in found.figures.intervals.items()},
            "sha256": found.trial.sha256,
            "artifact": None if self.artifact is None else str(self.artifact),
            "fidelity": self.fidelity, "layers": [dict(layer) for layer in self.layers],
            "macs": None if self.costs is None else self.costs.macs,
            "parameters": None if self.costs is None else self.costs.parameters,
            "measurements": [{**asdict(m), "warnings": m.warnings()} for m in self.measurements],
            "front": self.why, "reason": found.trial.reason, "message": found.trial.message,
        }


def details_of(reading: Reading, name: str) -> CandidateDetails:
    """``name`` is ``campaign/number``. Raises UserError, also before the baseline is measured."""
    found = reading.candidate(name)
    front = reading.front(found.trial.campaign, device=found.trial.device)
    scans = reading.scans(found.trial.campaign).get(found.trial.device, ())
    sha256 = found.trial.sha256
    with reading.ledger() as db:
        build = builds.of_file(db, sha256) if sha256 else None
        measured = measurements.of_file(db, sha256) if sha256 else []
    return CandidateDetails(
        found, reading.artifact(sha256) if sha256 else None, build.fidelity if build else None,
        parse(GraphCosts, build.report) if build else None, measured, why(found, front),
        layer_strengths(found.recipe, scans))


def why(found: StoredCandidate, front: Front) -> str:
    """Why a candidate is or is not on the front, in one sentence, or in the whole message of a
    failure."""
    if front.has(found.name):
        return "on the front: no other candidate within the constraints is at least as good on " \
               "every objective"
    trial = found.trial
    if trial.state != "complete" or trial.reason:
        return f"not on the front: {whole_text(trial.reason or trial.state, trial.message)}"
    broken = [name for name, excess in (trial.constraints or {}).items() if excess > 0]
    if broken:
        return f"not on the front: breaks a constraint: {', '.join(broken)}"
    better = [p.candidate for p in front.points
              if _no_worse(p.values, found.figures.values, front.objectives)]
    if not better:
        return "not on the front: another candidate was clearly better when it was measured"
    return f"not on the front: {', '.join(better)} is no worse on every objective and better on one"


def _no_worse(first: Mapping[str, float], second: Mapping[str, float],
              objectives: Sequence[Objective]) -> bool:
    return all(first[o.name] <= second[o.name] if o.direction == "minimize"
               else first[o.name] >= second[o.name] for o in objectives)
