"""The scans of a campaign: what each layer loses under each strategy with a number per layer."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from searcher.client.jobs import EndedJob, JobFlow
from searcher.jobs.scan import ScanRequest
from searcher.search.payloads import BASELINE, Requests
from searcher.search.recipes.tables import scanned_parameter
from searcher.search.space import Space
from searcher.spec.scan_result import ScanResult

BUDGET_SHARE = 0.1
"""Largest share of the search time that all scans together take."""
LONGEST_S = 120.0
"""Seconds of one scan: more samples and strengths would change no number."""
LISTEN_S = 5.0


@dataclass(frozen=True)
class Scanned:
    """``results`` by strategy, ``jobs`` their ids in the ledger; ``notes`` say what is coarser or
    missing and why."""

    results: Mapping[str, ScanResult]
    jobs: Mapping[str, int]
    notes: tuple[str, ...]


def scan_all(flow: JobFlow, requests: Requests, space: Space, search_s: float, builders: int
             ) -> Scanned:
    """Scan the strategies of ``space`` side by side, and wait for all. ``search_s`` is the search
    time of the campaign. A scan that fails leaves one number for all layers."""
    kinds = list(dict.fromkeys(strategy for _, strategy in space.choices
                               if scanned_parameter(strategy) is not None))
    seconds = _seconds_of_each(search_s, builders, len(kinds))
    ended: dict[str, EndedJob[ScanResult]] = {}
    for kind in kinds:
        request = ScanRequest(requests.campaign.task, kind.name, requests.campaign.seed,
                              requests.target, seconds)
        flow.submit(request, BASELINE, functools.partial(ended.__setitem__, kind.name))
    while len(ended) < len(kinds):
        flow.listen(LISTEN_S)
    results = {name: job.result for name, job in ended.items() if job.result is not None}
    notes = [f"{name} has one number for all layers, its scan failed: {job.why}"
             for name, job in ended.items() if job.result is None]
    notes += [f"the scan of {name} is coarser, to end in {seconds:.3g} s: {result.coarser}"
              for name, result in results.items() if result.coarser is not None]
    return Scanned(results, {name: ended[name].job or 0 for name in results}, tuple(notes))


def _seconds_of_each(search_s: float, builders: int, scans: int) -> float:
    """Where each builder takes one scan after the other. Rounded, so that a resumed search asks for
    the same scan."""
    share = BUDGET_SHARE * search_s / max(math.ceil(scans / builders), 1)
    return LONGEST_S if math.isinf(share) else min(round(share, 1), LONGEST_S)
