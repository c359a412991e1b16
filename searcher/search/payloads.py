"""Requests of a search to builders and devices, and their priorities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.protocol import ArtifactRef, InferPayload, MeasurePayload, MeasurePlan
from searcher.jobs.build import UNTRAINED, BuildRequest
from searcher.jobs.evaluate import DeviceOutputs, EvaluateRequest
from searcher.jobs.infer import InferRequest
from searcher.jobs.measure import MeasureRequest
from searcher.ledger.tables.search_state import BaselineState, FileRef
from searcher.pareto.front import excess
from searcher.spec.campaign import Campaign
from searcher.spec.objectives import scale_of
from searcher.spec.recipe import Recipe
from searcher.spec.runtime_options import Execution
from strategies.target import Target

BASELINE = 50
FINAL_MEASUREMENT = 45
DEVICE_QUALITY = 42
FINAL_EVALUATION = 40
COMPRESS = 30
TRAIN = {"full": 20, "extended": 20, "short": 10}
MEASURE = 10
"""Job priorities; jobs with higher priority are leased first."""


@dataclass(frozen=True)
class Requests:
    """Requests of one campaign for one device. Equal requests have equal payloads, so that jobs
    are shared."""

    campaign: Campaign
    target: Target
    execution: Execution

    def excess(self, values: Mapping[str, float]) -> dict[str, float]:
        """Excess of ``values`` over the campaign's constraints; positive means violated."""
        return excess(values, self.campaign.constraints, scale_of(self.campaign.objectives))

    def compress(self, recipe: Recipe) -> BuildRequest:
        return BuildRequest(self.campaign.task, recipe, self.campaign.seed, self.target, UNTRAINED)

    def train(self, recipe: Recipe, fidelity: str, threads: int = 1) -> BuildRequest:
        """One thread by default: builders that run at the same time would compete for cores."""
        return BuildRequest(self.campaign.task, recipe, self.campaign.seed, self.target, fidelity,
                            threads)

    def evaluate(self, sha256: str, split: str,
                 outputs: DeviceOutputs | None = None) -> EvaluateRequest:
        return EvaluateRequest(self.campaign.task, sha256, split, outputs)

    def infer(self, model: FileRef, inputs: FileRef, attempt: int,
              outputs: Sequence[str] = ()) -> InferRequest:
        """Run inference on a data set with the options of the measurement, and batches of many
        samples. ``outputs`` are asked for by name; none: all."""
        return InferRequest(InferPayload(
            ArtifactRef(model.sha256, model.size_bytes),
            ArtifactRef(inputs.sha256, inputs.size_bytes), self.execution.runtime,
            self.execution.infer_options, attempt, list(outputs)))

    def measure(self, reference: FileRef, files: Sequence[FileRef], plan: MeasurePlan, attempt: int,
                quiet_level_s: float | None = None) -> MeasureRequest:
        """``quiet_level_s`` is the known quiet level of the reference; None: the job determines
        it."""
        # Files of several recipes may be equal; each is measured once.
        sizes = {file.sha256: file.size_bytes for file in files}
        return MeasureRequest(MeasurePayload(
            ArtifactRef(reference.sha256, reference.size_bytes),
            [ArtifactRef(sha256, size) for sha256, size in sizes.items()],
            self.execution.runtime, self.execution.options, plan,
            quiet_level_s, 0, attempt))


def reference_of(baseline: BaselineState) -> FileRef:
    return FileRef(baseline.sha256, baseline.file_bytes)
