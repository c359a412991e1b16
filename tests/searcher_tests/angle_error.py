"""A user's metric that is minimized, has a unit and no scale."""

from typing import TYPE_CHECKING

import numpy as np

from searcher.tasks.metrics.base import Metric

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array

TEXT = "tests.searcher_tests.angle_error:AngleError"


class AngleError(Metric):
    """The mean error of an angle."""

    name = "angle_error"
    unit = "degree"
    direction = "minimize"
    scale = None
    answer = "values"

    def scores(self, outputs: "Array", targets: "Array") -> "Array":
        """(n,) of outputs (n, 1) and targets (n,)."""
        error: Array = np.abs(outputs[:, 0] - targets)
        return error


class Broken(AngleError):
    """It computes values and raises for two files."""

    def difference(self, reference: "Array", scores: "Array",
                   z: float = 0.0) -> tuple[float, float, float]:
        raise KeyError("reference")


BROKEN = "tests.searcher_tests.angle_error:Broken"
