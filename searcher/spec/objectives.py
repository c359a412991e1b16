"""Objectives of a campaign: the axes of a front, with direction, role, unit and scale.

One objective is the quality, which the task's metric gives; all others are costs. A campaign may
name the metric, or write ``quality``, which stands for the metric of its task.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from searcher.errors import UserError, nearest

Direction = Literal["minimize", "maximize"]
Role = Literal["quality", "cost"]

QUALITY, BEST = "quality", "best"
"""The quality objective whose metric and direction are those of the task."""
DROP, TEST_DROP = "quality_drop", "quality_test_drop"
"""What a candidate loses against the baseline over the same samples, on the validation split and
on the test split, in the metric's unit; positive is worse."""
ALIASES = {"accuracy_drop": DROP, "accuracy_test_drop": TEST_DROP}
"""Other names of figures in campaign files and conditions."""

COSTS = {
    "latency_s": "s", "latency_p99_s": "s", "throughput_per_s": "1/s", "file_bytes": "byte",
    "transfer_bytes": "byte", "memory_bytes": "byte", "energy_j": "J", "power_w": "W",
}
"""Units of the figures that a device or a file gives."""
MEASURABLE = ("latency_s", "file_bytes", "energy_j", "power_w")
"""Costs that may be objectives."""
ENERGY_OBJECTIVES = frozenset({"energy_j", "power_w"})
"""Objectives that only a plan with ``energy_s`` > 0 measures."""
DEFAULT = {QUALITY: BEST, "latency_s": "minimize", "file_bytes": "minimize"}


@dataclass(frozen=True)
class Objective:
    """One axis of a front.

    ``direction`` is ``best`` for the quality of a campaign that leaves it to the task's metric.
    ``scale`` is a difference that counts as large, in ``unit``. It is None for costs, whose
    differences count relative to the baseline's cost.
    """

    name: str
    direction: Literal["minimize", "maximize", "best"]
    role: Role = "cost"
    unit: str = ""
    scale: float | None = None

    @property
    def known_direction(self) -> Direction:
        """Raises ValueError before the direction of the task's metric is known."""
        if self.direction == "best":
            raise ValueError(f"the direction of {self.name} is not resolved yet")
        return self.direction

    def loss(self, value: float) -> float:
        """``value`` with the sign that makes smaller ones better."""
        return value if self.known_direction == "minimize" else -value

    def worsened(self, value: float, amount: float) -> float:
        """``value`` made worse by ``amount``, or better by a negative one."""
        return value + amount if self.known_direction == "minimize" else value - amount

    def text(self, value: float) -> str:
        """``value`` as people read it: a share in percent, any other unit as a number."""
        if self.unit == "share":
            return f"{value:.2%}"
        return f"{value:.4g} {self.unit}".rstrip()

    def as_document(self) -> dict[str, object]:
        return {"name": self.name, "direction": self.direction, "unit": self.unit,
                "role": self.role}


@dataclass(frozen=True)
class Quality:
    """What the candidates of a search are judged by: the metric of the task.

    ``metric`` is the metric with its parameters, ``name`` the name of its figures. ``scale`` is a
    difference that counts as large, in ``unit``.
    """

    metric: str
    name: str
    unit: str
    direction: Direction
    scale: float

    @property
    def objective(self) -> Objective:
        return Objective(self.name, self.direction, "quality", self.unit, self.scale)

    @property
    def test_name(self) -> str:
        """The name of the figure on the test split."""
        return f"{self.name}_test"


def quality_of(objectives: Iterable[Objective]) -> Objective:
    """The one objective that is the quality."""
    return next(o for o in objectives if o.role == "quality")


def scale_of(objectives: Iterable[Objective]) -> float:
    """The scale of the quality. Raises ValueError before the objectives are resolved."""
    scale = quality_of(objectives).scale
    if scale is None:
        raise ValueError("the quality of these objectives is not resolved yet")
    return scale


def costs_of(objectives: Iterable[Objective]) -> list[str]:
    """Names of the costs among ``objectives``."""
    return [o.name for o in objectives if o.role == "cost"]


def parse_objectives(table: Mapping[str, object]) -> tuple[Objective, ...]:
    """The objectives of a campaign by name and direction, the quality first. Raises UserError."""
    objectives = [_objective(name, str(direction))
                  for name, direction in (table or DEFAULT).items()]
    qualities = [o.name for o in objectives if o.role == "quality"]
    if len(qualities) > 1:
        raise UserError(f"[objectives] has {len(qualities)} qualities: {', '.join(qualities)}. "
                        f"Keep one; costs are: {', '.join(MEASURABLE)}.")
    if not qualities or len(objectives) < 2:
        raise UserError("[objectives] needs quality (or the name of the task's metric) and at "
                        f"least one of {', '.join(MEASURABLE)}.")
    # The ledger stores tables alphabetically; the order of a front must not depend on that.
    order = [*qualities, *COSTS]
    return tuple(sorted(objectives, key=lambda o: order.index(o.name)))


def _objective(name: str, direction: str) -> Objective:
    if name in COSTS:
        if name not in MEASURABLE:
            raise UserError(f"Objective {name!r} cannot be measured (and is never estimated). "
                            f"Use: {QUALITY}, {', '.join(MEASURABLE)}.")
        if direction != "minimize":
            raise UserError(f"Objective {name} = {direction!r} must be minimize.")
        return Objective(name, "minimize", "cost", COSTS[name])
    known = (QUALITY, *COSTS)
    if name != QUALITY and difflib.get_close_matches(name, known, n=1):
        raise UserError(f"Unknown objective {name!r}. {nearest(name, known)}")
    if name in {DROP, TEST_DROP, *ALIASES} or not name or not name.isprintable():
        raise UserError(f"{name!r} cannot be an objective. Use: {QUALITY}, "
                        f"{', '.join(MEASURABLE)}.")
    if direction == "minimize":
        return Objective(name, "minimize", "quality")
    if direction == "maximize":
        return Objective(name, "maximize", "quality")
    if direction == BEST and name == QUALITY:
        return Objective(name, "best", "quality")
    words = "minimize, maximize or best" if name == QUALITY else "minimize or maximize"
    raise UserError(f"Objective {name} = {direction!r} must be {words}.")


def resolved(objectives: Sequence[Objective], quality: Quality) -> tuple[Objective, ...]:
    """``objectives`` with the task's ``quality``. Raises UserError when the campaign names another
    metric, or another direction."""
    asked, mine = quality_of(objectives), quality.objective
    if mine.name in {*COSTS, DROP, TEST_DROP, *ALIASES}:
        raise UserError(f"The metric {quality.metric!r} has the name of another figure, "
                        f"{mine.name!r}. Give the metric another name.")
    if asked.name not in (QUALITY, quality.name, quality.metric):
        raise UserError(
            f"Objective {asked.name!r} is not the metric of the task, which is "
            f"{quality.metric!r}. Write {QUALITY} = \"{BEST}\" or {_key(mine.name)} = "
            f"\"{mine.direction}\" in [objectives], or give the task the metric {asked.name!r}.")
    if asked.direction not in (BEST, mine.direction):
        raise UserError(
            f"Objective {asked.name} = {asked.direction!r}, but the metric of the task, "
            f"{quality.metric!r}, is better when it is "
            f"{'smaller' if mine.direction == 'minimize' else 'larger'}. Write "
            f"{_key(asked.name)} = \"{mine.direction}\".")
    return tuple(replace(mine) if o.role == "quality" else o for o in objectives)


def _key(name: str) -> str:
    """``name`` as a key of TOML."""
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else f'"{name}"'


def same_objectives(first: Sequence[Objective], second: Sequence[Objective]) -> bool:
    """Whether both ask for the same. ``quality`` agrees with any metric and ``best`` with any
    direction: the search checks a named metric against that of the task."""
    one, other = quality_of(first), quality_of(second)
    return (costs_of(first) == costs_of(second)
            and (one.name == other.name or QUALITY in (one.name, other.name))
            and (one.direction == other.direction or BEST in (one.direction, other.direction)))
