"""Checks every metric against scikit-learn or torchmetrics on random data, and in simulation the
coverage of its 95 % intervals, of the value and of the paired difference.

    python -m benchmarks.own_task_metrics

A population of outputs of two models is drawn once, so that its values are known exactly. Each
trial draws samples from it with replacement; an interval should hold the population's value in 93
to 97 % of the trials.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.checks import Check, conclude, holds
from searcher.tasks.metrics.base import Metric
from searcher.tasks.metrics.registry import named

Array = NDArray[Any]
Independent = Callable[[Array, Array], float]
SIZES = (400, 2000)
TRIALS = 2000
RESAMPLED_TRIALS = 600
"""Of metrics whose intervals come from resampling, which takes 200 times longer."""
COVERED = (0.93, 0.97)
MOST_DIFFERENT = 1e-6
DATA_SETS = 5


# -- data: outputs of a model and of its compressed file, and targets ------------------------


@dataclass(frozen=True)
class Population:
    """``wanted`` holds targets, or the outputs of the uncompressed model, (N, ...); ``before`` and
    ``after`` the outputs of two files, (N, ...)."""

    wanted: Array
    before: Array
    after: Array

    def rows(self, metric: Metric, batch: int = 5000) -> tuple[Array, Array]:
        """The metric's rows of both files."""
        parts = [slice(start, start + batch) for start in range(0, len(self.wanted), batch)]
        before, after = (
            np.concatenate([metric.scores(outputs[part], self.wanted[part]) for part in parts])
            for outputs in (self.before, self.after))
        return before, after


def classified(seed: int, n: int, shares: tuple[float, ...], signal: float,
               noise: float) -> Population:
    """Classes of these shares; the second file adds noise to the logits of the first."""
    draw = np.random.default_rng(seed)
    targets = draw.choice(len(shares), n, p=np.array(shares) / sum(shares))
    logits = draw.standard_normal((n, len(shares))) + signal * np.eye(len(shares))[targets]
    return Population(targets, logits, logits + noise * draw.standard_normal(logits.shape))


def one_logit(seed: int, n: int) -> Population:
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 2, n)
    logits = 3.0 * targets - 1.5 + draw.standard_normal(n)
    return Population(targets, logits[:, None], (logits + 0.4 * draw.standard_normal(n))[:, None])


def pictures(seed: int, n: int, size: int = 16, classes: int = 4) -> Population:
    """Rectangles of rarer and rarer classes on class 0; errors are shared by whole pictures and by
    neighbouring pixels."""
    draw = np.random.default_rng(seed)
    targets = np.zeros((n, size, size), np.int64)
    for label, share in zip(range(1, classes), (0.8, 0.4, 0.08), strict=True):
        for picture in np.flatnonzero(draw.random(n) < share):
            top, left = draw.integers(0, size - 4, 2)
            height, width = draw.integers(4, size // 2 + 1, 2)
            targets[picture, top:top + height, left:left + width] = label

    def errors(strength: float) -> Array:
        blocks = draw.standard_normal((n, classes, size // 4, size // 4))
        return (strength * np.kron(blocks, np.ones((1, 1, 4, 4)))
                + strength * draw.standard_normal((n, classes, 1, 1)))

    logits = 3.0 * np.moveaxis(np.eye(classes)[targets], -1, 1) + errors(1.0)
    logits += 0.5 * draw.standard_normal(logits.shape)
    return Population(targets, logits, logits + errors(0.4))


def uncompressed(seed: int, n: int, classes: int = 10) -> Population:
    """Logits of a model, and of two files whose errors vary from sample to sample."""
    draw = np.random.default_rng(seed)
    reference = 3.0 * draw.standard_normal((n, classes))

    def errors() -> Array:
        strength = 0.5 * np.exp(0.8 * draw.standard_normal((n, 1)))
        return strength * draw.standard_normal((n, classes))

    return Population(reference, reference + errors(), reference + 1.1 * errors())


def regressed(seed: int, n: int) -> Population:
    draw = np.random.default_rng(seed)
    targets = draw.standard_normal(n)
    outputs = targets + 0.3 * np.exp(0.5 * draw.standard_normal(n)) * draw.standard_normal(n)
    return Population(targets, outputs, outputs + 0.1 * draw.standard_normal(n))


# -- values: the same by other libraries -----------------------------------------------------


def equalities() -> Iterator[Check]:
    """Each metric on random data, against scikit-learn, torchmetrics, scipy or numpy."""
    for text, library, data, expected in independent():
        metric, largest = named(text), 0.0
        for seed in range(DATA_SETS):
            population = data(seed)
            rows, _ = population.rows(metric)
            found = metric.value(rows)
            largest = max(largest, abs(found - expected(population.before, population.wanted)))
        yield holds(f"{text} as {library}: largest difference", largest <= MOST_DIFFERENT,
                    f"{largest:.1e}", f"<= {MOST_DIFFERENT:g}")


def independent() -> list[tuple[str, str, Callable[[int], Population], Independent]]:
    """Metric, library, data by seed, and the library's value of outputs and targets."""
    import torch
    import torchmetrics
    from scipy.special import softmax
    from scipy.stats import entropy
    from sklearn import metrics

    def picked(outputs: Array) -> Array:
        found: Array = outputs.argmax(axis=1)
        return found

    def ignored(seed: int) -> Population:
        population = pictures(seed, 60)
        population.wanted[:, :5] = 255
        return population

    def jaccard(outputs: Array, targets: Array) -> float:
        counted = targets != 255
        return float(metrics.jaccard_score(
            targets[counted], picked(outputs)[counted], average="macro"))

    def mean_absolute(outputs: Array, targets: Array) -> float:
        made = torchmetrics.MeanAbsoluteError()
        return float(made(torch.from_numpy(outputs), torch.from_numpy(targets)))

    def cosine(outputs: Array, reference: Array) -> float:
        return float(torchmetrics.CosineSimilarity(reduction="mean")(
            torch.from_numpy(outputs), torch.from_numpy(reference)))

    few, many = (0.9, 0.07, 0.03), tuple([1.0] * 12)
    return [
        ("accuracy", "scikit-learn", lambda s: classified(s, 900, few, 2.0, 0.3),
         lambda o, t: metrics.accuracy_score(t, picked(o))),
        ("accuracy_top5", "scikit-learn", lambda s: classified(s, 900, many, 1.0, 0.3),
         lambda o, t: metrics.top_k_accuracy_score(t, o, k=5, labels=range(12))),
        ("binary_accuracy", "scikit-learn", lambda s: one_logit(s, 900),
         lambda o, t: metrics.accuracy_score(t, o[:, 0] > 0)),
        ("balanced_accuracy", "scikit-learn", lambda s: classified(s, 900, few, 2.0, 0.3),
         lambda o, t: metrics.balanced_accuracy_score(t, picked(o))),
        ("f1_macro", "scikit-learn", lambda s: classified(s, 900, few, 2.0, 0.3),
         lambda o, t: metrics.f1_score(t, picked(o), average="macro", zero_division=0)),
        ("mean_iou", "scikit-learn", lambda s: pictures(s, 60), jaccard),
        ("mean_iou(ignore_index=255)", "scikit-learn", ignored, jaccard),
        ("agreement", "scikit-learn", lambda s: uncompressed(s, 900),
         lambda o, r: metrics.accuracy_score(picked(r), picked(o))),
        ("output_cosine", "torchmetrics", lambda s: uncompressed(s, 900), cosine),
        ("kl_divergence", "scipy", lambda s: uncompressed(s, 900), lambda o, r: float(
            entropy(softmax(r, axis=1), softmax(o, axis=1), axis=1).mean())),
        ("torchmetrics.MeanAbsoluteError", "torchmetrics", lambda s: regressed(s, 900),
         mean_absolute),
    ]


# -- intervals -------------------------------------------------------------------------------


def simulated() -> list[tuple[str, str, Population]]:
    """Metric, what its population is like, and the population."""
    rare = (0.95, 0.05)
    four = (0.6, 0.2, 0.15, 0.05)
    return [
        ("accuracy", "4 classes", classified(1, 100_000, four, 2.5, 0.5)),
        ("accuracy_top5", "12 classes", classified(2, 100_000, (1.0,) * 12, 1.5, 0.5)),
        ("binary_accuracy", "one logit", one_logit(3, 100_000)),
        ("balanced_accuracy", "2 classes, one of 5 %", classified(4, 100_000, rare, 1.5, 1.0)),
        ("balanced_accuracy", "4 classes, one of 5 %", classified(5, 100_000, four, 2.0, 1.0)),
        ("balanced_accuracy", "40 classes", classified(6, 100_000, (1.0,) * 40, 3.5, 0.5)),
        ("f1_macro", "2 classes, one of 5 %", classified(7, 100_000, rare, 3.0, 0.5)),
        ("f1_macro", "4 classes, one of 5 %", classified(8, 100_000, four, 2.5, 0.5)),
        ("mean_iou", "a class in 8 % of the pictures", pictures(9, 20_000)),
        ("agreement", "10 classes", uncompressed(10, 100_000)),
        ("output_cosine", "skewed errors", uncompressed(11, 100_000)),
        ("kl_divergence", "skewed errors", uncompressed(12, 100_000)),
        ("torchmetrics.MeanAbsoluteError", "regression", regressed(13, 100_000)),
        ("torchmetrics.classification.BinaryAUROC", "one logit", one_logit(14, 100_000)),
    ]


def coverage(metric: Metric, population: Population, n: int, trials: int) -> tuple[float, float]:
    """The shares of ``trials`` whose interval holds the population's value, and whose paired
    interval holds its difference."""
    before, after = population.rows(metric)
    value, lost = metric.value(before), metric.value(before) - metric.value(after)
    draw = np.random.default_rng(n)
    held = np.zeros(2)
    for _ in range(trials):
        chosen = draw.integers(0, len(before), n)
        low, high = metric.interval(before[chosen])
        _, below, above = metric.difference(before[chosen], after[chosen])
        held += (low <= value <= high, below <= lost <= above)
    return float(held[0]) / trials, float(held[1]) / trials


def coverages(trials: int = TRIALS, resampled: int = RESAMPLED_TRIALS) -> Iterator[Check]:
    for text, like, population in simulated():
        metric = named(text)
        for n in SIZES:
            count = resampled if text.startswith("torchmetrics.") else trials
            found = coverage(metric, population, n, count)
            for what, share in zip(("value", "difference"), found, strict=True):
                yield holds(f"{text}, {like}, n = {n}: interval of the {what}",
                            COVERED[0] <= share <= COVERED[1], f"{100 * share:.1f} %",
                            f"{100 * COVERED[0]:g} to {100 * COVERED[1]:g} %")


def checks(trials: int = TRIALS, resampled: int = RESAMPLED_TRIALS) -> list[Check]:
    return [*equalities(), *coverages(trials, resampled)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=TRIALS, metavar="N",
                        help=f"trials of each simulation (default: {TRIALS})")
    trials = parser.parse_args().trials
    return conclude(checks(trials, min(trials, RESAMPLED_TRIALS)), "values and intervals")


if __name__ == "__main__":
    sys.exit(main())
