"""Recipes that are asked for first: those that are known to work on many networks, and the best of
earlier campaigns on the same task. Both as parameters of the study."""

from collections.abc import Iterable, Mapping

from searcher.client.http import CoordinatorClient
from searcher.client.records import Trial
from searcher.pareto.front import front_of
from searcher.pareto.joint import trial_point
from searcher.search.recipes.offers import PARTS
from searcher.search.recipes.tables import Parameters, allowed_strength
from searcher.search.space import Space
from searcher.spec.objectives import Objective

KNOWN: tuple[Mapping[str, Mapping[str, float]], ...] = (
    {"int8": {}},
    {"channel_pruning": {"keep_ratio": 0.5}, "int8": {}},
    {"magnitude_pruning": {"keep_ratio": 0.4}, "clustering": {"bits": 4}},
    {"clustering": {"bits": 4}},
    {"tucker": {"rank_ratio": 0.5}, "int8": {}},
)
"""Strategies with their numbers: int8 (Jacob et al. 2018); half of the channels and int8; Deep
Compression (Han et al. 2016); shared weights of four bits; Tucker (Kim et al. 2016) and int8."""
MOST_EARLIER = 8


def known_recipes(space: Space) -> list[Parameters]:
    """Those of ``KNOWN`` whose strategies the space offers, on the whole model or on each part; no
    stronger than the scan of a strategy allows."""
    offered = {f"{group}.{s.name}" for group, s in space.choices}
    found = list[Parameters]()
    for recipe in KNOWN:
        parameters: dict[str, float] = {}
        for strategy, numbers in recipe.items():
            groups = ["model"] if f"model.{strategy}" in offered else [
                part for part in PARTS if f"{part}.{strategy}" in offered]
            for group in groups:
                parameters[f"{group}.{strategy}.on"] = True
                for name, value in numbers.items():
                    span = space.strengths[f"{group}.{strategy}.{name}"]
                    allowed = allowed_strength(space.scans.get(strategy), value)
                    parameters[f"{group}.{strategy}.{name}"] = span.value(span.strength(allowed))
            if not groups:
                break
        else:
            found.append(parameters)
    return found


def earlier_recipes(client: CoordinatorClient, digest: str, but: str,
                    objectives: Iterable[Objective]) -> list[Parameters]:
    """The front of each earlier campaign on the task with this digest, without campaign ``but``:
    at most ``MOST_EARLIER`` recipes, the newest campaign first."""
    found: list[Parameters] = []
    wanted = tuple(objectives)
    for campaign in sorted(client.campaigns(), key=lambda row: -row.created_s):
        tasks = [state.task for state in campaign.search_states.values()]
        if campaign.name != but and any(t is not None and t.digest == digest for t in tasks):
            found += front_parameters(client.trials(campaign.name), wanted)
    return found[:MOST_EARLIER]


def front_parameters(trials: Iterable[Trial], objectives: Iterable[Objective]) -> list[Parameters]:
    """The parameters of the trials on the front, evenly along it. Trials that lack one of the
    objectives do not count."""
    wanted = tuple(objectives)
    rows = {row.id: row for row in trials if all(o.name in (row.values or {}) for o in wanted)}
    points = [point for point in map(trial_point, rows.values()) if point is not None]
    front = front_of(points, wanted)
    step = max(len(front) / MOST_EARLIER, 1.0)
    chosen = [front[int(i * step)] for i in range(min(len(front), MOST_EARLIER))]
    return [dict(rows[point.trial].parameters.values) for point in chosen]
