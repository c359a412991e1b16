"""Any metric of torchmetrics, on rows of outputs and targets.

A row holds one sample: its output and its target, each as a kind, a number of axes, their sizes and
the values. So the metric of torchmetrics itself computes the value of any selection of rows.
"""

import math
import warnings
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from searcher.errors import nearest
from searcher.tasks.metrics.answers import check_finite, numbers, whole_numbers
from searcher.tasks.metrics.base import Z_95, Metric, Total, check_pairs
from searcher.tasks.metrics.parameters import check_parameters

if TYPE_CHECKING:
    import torch
    import torchmetrics

    from searcher.tasks.metrics.base import Array, Direction

RESAMPLES, FEWEST_RESAMPLES = 200, 40
RESAMPLED_SAMPLES = 2_000_000
"""In all resamples together: large splits are resampled less often."""
SEED = 0
WHOLE, REAL = 0, 1
"""Kinds of values in a row."""


class TorchMetric(Metric):
    """The metric at ``place``, such as ``torchmetrics.MeanAbsoluteError``, made with
    ``parameters``. ``direction`` is for a metric of which torchmetrics states none. Raises
    ValueError where there is no such metric, it cannot be made so, or it does not compare outputs
    with targets."""

    unit = ""
    answer = "values"

    def __init__(self, place: str, parameters: Mapping[str, object],
                 direction: "Direction | None" = None) -> None:
        self._place, self._parameters = place, dict(parameters)
        self.name = place.rpartition(".")[2]
        made = self._made()
        better = made.higher_is_better
        if direction not in (None, "maximize", "minimize"):
            raise ValueError(f"direction is {direction!r}; expected \"maximize\" or \"minimize\"")
        if direction is None and better is None:
            raise ValueError(f"torchmetrics does not say whether more of {self.name} is better; "
                             "add direction=\"maximize\" or direction=\"minimize\"")
        self.direction = direction or ("maximize" if better else "minimize")
        self._bounds = (made.plot_lower_bound, made.plot_upper_bound)
        self.scale = 1.0 if self._bounds == (0.0, 1.0) else None
        self._takes_classes = ".classification." in type(made).__module__

    def scores(self, outputs: "Array", targets: "Array") -> "Array":
        """(n, width) float32 or float64: the output and the target of each sample."""
        import numpy as np

        found = numbers(outputs, targets, self._place)
        wanted = np.asarray(targets)
        if wanted.dtype.kind not in "biuf":
            raise ValueError(f"targets have type {wanted.dtype}; {self._place} needs numbers")
        check_finite(wanted, "target")
        if found.size == wanted.size and found.ndim != wanted.ndim:
            found = found.reshape(wanted.shape)  # (n, 1) answers (n,)
        if self._takes_classes:
            wanted = whole_numbers(wanted, self._place)
        sides = [_described(found), _described(wanted)]
        exact = all(np.array_equal(side, side.astype(np.float32)) for side in sides)
        return np.concatenate(sides, axis=1).astype(np.float32 if exact else np.float64)

    def value(self, scores: "Array") -> float:
        return self._computed(self._made(), *_restored(scores))

    def total(self) -> Total:
        return _Stream(self, self._made())

    def interval(self, scores: "Array", z: float = Z_95) -> tuple[float, float]:
        """The standard deviation over resampled samples (Efron 1979), with a fixed seed, and
        Student's quantile for their number; on the scale of log odds for a share between 0 and 1,
        which varies less on the side of its bound."""
        value = self.value(scores)
        half = self._half_width(self._resampled(scores), value, len(scores), z)
        if self.scale == 1.0 and 0 < value < 1:
            odds, factor = value / (1 - value), math.exp(min(half / value / (1 - value), 100.0))
            return odds / (odds + factor), odds * factor / (1 + odds * factor)
        low, high = value - half, value + half
        bottom, top = self._bounds
        if bottom is not None and bottom <= value:
            low = max(low, bottom)
        if top is not None and value <= top:
            high = min(high, top)
        return low, high

    def difference(self, reference: "Array", scores: "Array",
                   z: float = Z_95) -> tuple[float, float, float]:
        """As ``interval``: both values of each resample come from the same samples."""
        check_pairs(reference, scores)
        value = self.value(reference)
        lost = value - self.value(scores)
        half = self._half_width(
            self._resampled(reference) - self._resampled(scores), value, len(scores), z)
        return lost, lost - half, lost + half

    def _half_width(self, resampled: "Array", value: float, n: int, z: float) -> float:
        import numpy as np
        from scipy.special import ndtr, stdtrit

        finite = resampled[np.isfinite(resampled)]
        if n < 2 or len(finite) < 2:
            return float("inf")
        spread = float(finite.std(ddof=1))
        if spread > 1e-9 * abs(value):
            return float(-stdtrit(len(finite) - 1, ndtr(-z))) * spread
        return z * z / (n + z * z) * (self.scale or abs(value) or 1.0)

    def _resampled(self, scores: "Array") -> "Array":
        """The value of each draw of n rows with replacement; nan where it has none."""
        import numpy as np
        import torch

        outputs, targets = _restored(scores)
        made, draw, n = self._made(), np.random.default_rng(SEED), len(scores)
        found = np.full(min(max(RESAMPLED_SAMPLES // n, FEWEST_RESAMPLES), RESAMPLES), np.nan)
        for i in range(len(found)):
            chosen = torch.from_numpy(draw.integers(0, n, n))
            try:
                found[i] = self._computed(made, outputs[chosen], targets[chosen])
            except ValueError:  # such as a class that was not drawn
                continue
        return found

    def _made(self) -> "torchmetrics.Metric":
        cls = _class(self._place)
        check_parameters(self._place, cls, self._parameters)
        try:
            made = cls(**self._parameters)
        except Exception as error:  # torchmetrics has no error of its own
            raise ValueError(f"{self._place} cannot be made: {error}") from error
        _check_inputs(self._place, made)
        return made

    def _computed(self, made: "torchmetrics.Metric", outputs: "torch.Tensor",
                  targets: "torch.Tensor") -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.reset()
            self.update(made, outputs, targets)
            return self.number(made)

    def update(self, made: "torchmetrics.Metric", outputs: "torch.Tensor",
               targets: "torch.Tensor") -> None:
        """Gives ``made`` more samples. Raises ValueError that says what it was given."""
        try:
            made.update(outputs, targets)
        except Exception as error:  # torchmetrics and torch raise many kinds
            raise ValueError(
                f"{self._place} does not take outputs of shape {tuple(outputs.shape)} "
                f"({outputs.dtype}) with targets of shape {tuple(targets.shape)} "
                f"({targets.dtype}): {error}") from error

    def number(self, made: "torchmetrics.Metric") -> float:
        """What ``made`` computes. Raises ValueError where this is not one number."""
        try:
            computed: Any = made.compute()
        except Exception as error:  # torchmetrics and torch raise many kinds
            raise ValueError(f"{self._place} raised {type(error).__name__}: {error}") from error
        if not hasattr(computed, "numel") or computed.numel() != 1:
            found = (f"{computed.numel()} numbers" if hasattr(computed, "numel")
                     else f"a {type(computed).__name__} of {len(computed)}")
            raise ValueError(f"{self._place} gives {found}; a task is judged by one. Many metrics "
                             "take average=\"macro\" or reduction=\"mean\"")
        return float(computed)


class _Stream(Total):
    """The samples of a split go through one metric of torchmetrics, which keeps its own state."""

    def __init__(self, metric: TorchMetric, made: "torchmetrics.Metric") -> None:
        self._metric, self._made = metric, made

    def add(self, scores: "Array") -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._metric.update(self._made, *_restored(scores))

    def value(self) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._metric.number(self._made)


def _described(values: "Array") -> "Array":
    """(n, 2 + axes + values) float64: kind, number of axes, their sizes, and the values."""
    import numpy as np

    head = [REAL if values.dtype.kind == "f" else WHOLE, values.ndim - 1, *values.shape[1:]]
    flat = values.reshape(len(values), -1).astype(np.float64)
    return np.concatenate([np.tile(np.array(head, float), (len(flat), 1)), flat], axis=1)


def _restored(scores: "Array") -> "tuple[torch.Tensor, torch.Tensor]":
    """Outputs and targets (n, ...) of rows: whole numbers as int64, others as the rows' type."""
    import numpy as np
    import torch

    found, start = [], 0
    for _ in ("output", "target"):
        kind, axes = (int(v) for v in scores[0, start:start + 2])
        shape = [int(v) for v in scores[0, start + 2:start + 2 + axes]]
        start += 2 + axes
        size = int(np.prod(shape))
        values = np.ascontiguousarray(scores[:, start:start + size]).reshape(len(scores), *shape)
        found.append(torch.from_numpy(values.astype(np.int64) if kind == WHOLE else values))
        start += size
    return found[0], found[1]


@cache
def _class(place: str) -> "type[torchmetrics.Metric]":
    """Raises ValueError with the nearest place where ``place`` is no metric."""
    import torchmetrics

    known = {f"{module}.{name}": cls for module, names in _modules() for name, cls in names.items()}
    if place not in known:
        name = place.rpartition(".")[2]
        same = [other for other in known if other.rpartition(".")[2] == name]
        raise ValueError(f"{place} is no metric of torchmetrics {torchmetrics.__version__}. "
                         f"{nearest(same[0] if same else place, same or known)}")
    return known[place]


def _modules() -> "list[tuple[str, dict[str, type[torchmetrics.Metric]]]]":
    """The public metrics of torchmetrics and of its packages."""
    import inspect

    import torchmetrics

    packages = {"torchmetrics": torchmetrics, **{
        f"torchmetrics.{name}": module for name, module in vars(torchmetrics).items()
        if inspect.ismodule(module) and hasattr(module, "__path__")}}
    return [(place, {name: cls for name, cls in vars(module).items() if inspect.isclass(cls)
                     and issubclass(cls, torchmetrics.Metric) and not name.startswith("_")})
            for place, module in packages.items()]


def _check_inputs(place: str, made: "torchmetrics.Metric") -> None:
    """Raises ValueError where ``made`` is updated with other things than outputs and targets."""
    import inspect

    needed = [p.name for p in inspect.signature(made.update).parameters.values()
              if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(needed) != 2:
        raise ValueError(f"{place} takes {', '.join(needed) or 'no inputs'}; a task has outputs "
                         "and targets only. Use a metric that compares these two")
