"""The rows of ``benchmarks.models``: networks, search time, and what the front must hold."""

from dataclasses import dataclass

import tomli_w


@dataclass(frozen=True)
class Goal:
    """Some point that loses at most ``within`` on test must be ``smaller`` times smaller, and some,
    maybe another, ``faster`` times faster than the baseline. ``confident``: the least agreement of
    the fast one over the samples where the baseline is confident."""

    within: float
    smaller: float | None = None
    faster: float | None = None
    confident: float | None = None


@dataclass(frozen=True)
class Row:
    """``minutes`` of search after the baseline; ``drop``: the campaign's constraint, the largest
    loss on validation. ``train``: whether the campaign may train."""

    name: str
    network: str
    minutes: float
    drop: float
    goals: tuple[Goal, ...]
    plain_goals: tuple[Goal, ...] = ()
    """What the plain script reaches on a quiet machine, by its own figures: with less it is no
    yardstick. Its best points lose nothing but the noise of 4,000 pictures."""
    train: bool = True
    reference_drop: float = 0.05
    """Loss at the reference point of the hypervolume."""
    campaign_file: str | None = None
    """The campaign, where it is an example of the project."""

    @property
    def task(self) -> str:
        return f"benchmarks.networks.tasks:{self.network}"

    def campaign(self, seed: int, search: dict[str, object] | None = None) -> str:
        """The text of the campaign file; ``search`` adds options of its [search]."""
        options = {**({} if self.train else {"train": False}), **(search or {})}
        return tomli_w.dumps({
            "name": self.name, "task": self.task, "seed": seed,
            "budget": {"candidates": 100_000, "wall_minutes": self.minutes},
            "constraints": {"quality_drop": self.drop},
            "measurement": {"plan": "quick"},
            "devices": [{"profile": "local_cpu"}],
            **({"search": options} if options else {})})


ROWS = {row.name: row for row in (
    Row("lenet5", "lenet5", 2.4, 0.01, (Goal(0.01, 80, 4),),
        campaign_file="examples/lenet5_mnist.toml"),
    Row("residual", "residual", 8, 0.02, (Goal(0.02, 30, 7), Goal(0.003, 14, 5)),
        plain_goals=(Goal(0.02, 19.2, 6.2), Goal(0.003, 10, 4.5))),
    Row("residual-untrained", "residual", 3, 0.015, (Goal(0.015, 13, 3),), train=False),
    Row("vgg", "vgg", 8, 0.01, (Goal(0.01, 40, 7), Goal(0.003, 25, 7)),
        plain_goals=(Goal(0.005, 14.4, 5), Goal(0.017, 59, 6.8))),
    Row("vision_transformer", "vision_transformer", 8, 0.01, (Goal(0.01, 4, 1.3),),
        plain_goals=(Goal(0.003, 1.7, 1.2),)),
    Row("mobilenet_v2", "mobilenet_v2", 20, 0.15,
        (Goal(0.07, 4.7), Goal(0.12, 5.5), Goal(0.15, faster=2, confident=0.95)),
        reference_drop=0.2),
)}
