"""Time that a search needs to restore a study of ten thousand trials.

    python -m benchmarks.study [--trials 10000] [--dir DIR]

Fills a ledger with trials whose parameters a sampler proposed, serves it with a coordinator, and
times the start of a search process: it reads every trial over HTTP, then rebuilds the study.
Exit code 1 when that takes ``MOST_S`` or more.
"""

import argparse
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from profiles.schema import profile
from searcher.documents import plain
from searcher.ledger.store import Store
from searcher.ledger.tables import builds, campaigns, trials
from searcher.local.process_tree import tree
from searcher.search.sampling import Proposal, Sampling
from searcher.search.space import Space
from searcher.spec.campaign import Campaign, from_document
from searcher.tasks.catalog import task as task_of
from strategies.layers import layers_of

MOST_S = 5.0
PROPOSALS = 400
"""Number of distinct parameter sets; trials repeat them with different recipes."""
SHARES = {"complete": 0.3, "pruned": 0.6, "failed": 0.1}


def campaign_of(trials_: int) -> Campaign:
    return from_document({"name": "long", "task": "lenet5-mnist", "objectives": {
                              "accuracy": "maximize", "latency_s": "minimize",
                              "file_bytes": "minimize"},
                          "budget": {"candidates": trials_ + 100, "wall_minutes": 10_000},
                          "constraints": {"quality_drop": 0.01}})


def space_of(campaign: Campaign) -> Space:
    formats = profile(campaign.devices[0]).number_formats
    return Space.of(campaign, layers_of(task_of(campaign.task).model()), formats)


def proposals(campaign: Campaign, space: Space) -> list[Proposal]:
    """Proposals of a sampler that gets a result for each, as in a search."""
    sampling, draw, found = Sampling(campaign, space), random.Random(0), []
    for _ in range(PROPOSALS):
        proposal = sampling.ask()
        found.append(proposal)
        state, values, constraints = outcome(draw)
        sampling.tell(proposal.number, state, values, constraints)
    return found


def outcome(draw: random.Random) -> tuple[str, dict[str, float] | None, dict[str, float]]:
    state = draw.choices(list(SHARES), list(SHARES.values()))[0]
    drop = draw.uniform(-0.005, 0.03)
    values = {"accuracy": 0.99 - drop, "quality_drop": drop, "macs": 2e5,
              "latency_s": draw.uniform(1e-5, 1e-4), "file_bytes": draw.uniform(5e3, 2e5),
              "latency_ratio": draw.uniform(0.1, 1.0)}
    return state, values if state == "complete" else None, {"quality_drop": drop - 0.01}


def fill(directory: Path, campaign: Campaign, asked: Sequence[Proposal], count: int) -> None:
    """Creates a ledger of ``count`` ended trials."""
    store, draw = Store(directory / "ledger.db"), random.Random(1)
    with store.atomic() as db:
        campaigns.create(db, campaign.name, campaign.as_dict(), 1.0)
        for number in range(count):
            proposal = asked[number % len(asked)]
            recipe = f"{number:032x}"
            builds.put_recipe(db, recipe, proposal.recipe.as_list())
            trial = trials.create(db, campaign.name, campaign.devices[0], recipe, {},
                                  plain(proposal.parameters), float(number))
            state, values, constraints = outcome(draw)
            intervals = {name: [0.9 * v, 1.1 * v] for name, v in (values or {}).items()}
            trials.tell(db, trial, state, {
                "values": values or {}, "intervals": intervals, "constraints": constraints,
                "sha256": f"{number:064x}", "reason": None if values else "off the front",
            }, number + 0.5)
    store.close()


Times = tuple[float, float]
"""(wall time, CPU time of search and coordinator), in seconds."""


def restored(directory: Path, campaign: Campaign, space: Space) -> dict[str, Times]:
    """Times of each part, as ``searcher.search.process`` does it."""
    with tree(directory, builders=0, agent=False) as grown:
        coordinator = psutil.Process(grown.children["coordinator"].pid)
        marks = [_now(coordinator)]
        rows = grown.client.trials(campaign.name)
        marks.append(_now(coordinator))
        sampling = Sampling(campaign, space, len(rows))
        numbers = sampling.restore(rows)
        marks.append(_now(coordinator))
        if sorted(numbers.values()) != list(range(len(rows))):
            raise SystemExit("The study does not hold every trial.")
        sampling.ask()
        marks.append(_now(coordinator))
    began, read, ended, asked = marks
    return {"trials over HTTP": _between(began, read), "study rebuilt": _between(read, ended),
            "together": _between(began, ended), "first ask after that": _between(ended, asked)}


def _now(coordinator: psutil.Process) -> Times:
    used = coordinator.cpu_times()
    return time.perf_counter(), time.process_time() + used.user + used.system


def _between(first: Times, second: Times) -> Times:
    return second[0] - first[0], second[1] - first[1]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--dir", type=Path, help="keep the ledger here")
    options = parser.parse_args(arguments)
    campaign = campaign_of(options.trials)
    space = space_of(campaign)
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.dir or Path(scratch)
        if not (directory / "ledger.db").exists():
            fill(directory, campaign, proposals(campaign, space), options.trials)
        parts = restored(directory, campaign, space)
    print(f"{'':22} {'wall':>9} {'processor':>10}")
    for name, (wall_s, processor_s) in parts.items():
        print(f"{name:22} {wall_s:7.2f} s {processor_s:8.2f} s")
    print(f"{'resident at most':22} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:7.0f}"
          " MB")
    return 0 if parts["together"][0] < MOST_S else 1


if __name__ == "__main__":
    sys.exit(main())
