"""The metrics there are: one line each, and the entry points ``fleetfront.metrics``."""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, cast

from searcher.entry_points import Registry
from searcher.errors import UserError, nearest
from searcher.tasks.metrics.parameters import check_parameters, parsed

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Direction, Metric

METRICS: "Registry[Metric]" = Registry(
    "fleetfront.metrics", "metric", "searcher.tasks.metrics.base:Metric", {
        "accuracy": "searcher.tasks.metrics.accuracy:Accuracy",
        "accuracy_top5": "searcher.tasks.metrics.accuracy_top5:AccuracyTop5",
        "agreement": "searcher.tasks.metrics.agreement:Agreement",
        "balanced_accuracy": "searcher.tasks.metrics.balanced_accuracy:BalancedAccuracy",
        "binary_accuracy": "searcher.tasks.metrics.binary_accuracy:BinaryAccuracy",
        "f1_macro": "searcher.tasks.metrics.f1_macro:F1Macro",
        "kl_divergence": "searcher.tasks.metrics.kl_divergence:KlDivergence",
        "mean_iou": "searcher.tasks.metrics.mean_iou:MeanIou",
        "output_cosine": "searcher.tasks.metrics.output_cosine:OutputCosine",
    })
"""{name: place}."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
TORCHMETRICS = "torchmetrics."


@cache
def named(text: str) -> "Metric":
    """The metric of ``text``: a name of the registry, a metric of torchmetrics, or a subclass of
    ``Metric`` as ``package.module:Class``, each with parameters in parentheses. Raises
    UserError."""
    try:
        name, parameters = parsed(text)
        if name.startswith(TORCHMETRICS) and ":" not in name:
            made = _of_torchmetrics(name, parameters)
        else:
            cls = _own(text, name) if ":" in name else METRICS.get(name)
            check_parameters(name, cls, parameters)
            made = cls(**parameters)
    except UserError:
        raise
    except Exception as error:  # a user's class may raise anything
        said = str(error)
        raise UserError(f"Metric {text!r}: {said}{'' if said.endswith(('.', '?')) else '.'}"
                        ) from error
    arguments = ", ".join(f"{key}={value!r}" for key, value in sorted(parameters.items()))
    made.text = f"{name}({arguments})" if arguments else name
    return made


def _of_torchmetrics(place: str, parameters: Mapping[str, object]) -> "Metric":
    """Raises ValueError where torchmetrics has no such metric or cannot make it so."""
    from searcher.tasks.metrics.torch_metric import TorchMetric

    given = dict(parameters)
    return TorchMetric(place, given, cast("Direction | None", given.pop("direction", None)))


def _own(text: str, place: str) -> "type[Metric]":
    """A user's class. Raises UserError where it cannot be imported or is no metric."""
    from searcher.tasks.metrics.base import Metric

    module, _, name = place.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as for a task of one's own
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # a user's module may raise anything
        raise UserError(
            f"Metric {text!r} cannot be imported: {type(error).__name__}: {error}. Install its "
            "package in this environment, or run from the folder that holds it.") from error
    found = getattr(loaded, name, None)
    if found is None:
        raise UserError(f"Metric {text!r}: {module} has no {name!r}. "
                        f"{nearest(name, [n for n in vars(loaded) if not n.startswith('_')])}")
    if not (isinstance(found, type) and issubclass(found, Metric)):
        raise UserError(f"Metric {text!r}: {name} is no subclass of "
                        "searcher.tasks.metrics.base.Metric.")
    stated = [getattr(found, field, None) for field in ("name", "unit", "direction")]
    if not isinstance(stated[0], str) or not NAME.fullmatch(stated[0]) or not isinstance(
            stated[1], str) or stated[2] not in ("maximize", "minimize"):
        raise UserError(
            f"Metric {text!r}: found name = {stated[0]!r}, unit = {stated[1]!r}, direction = "
            f"{stated[2]!r}; expected a name of letters, digits and _, a text as unit, and "
            "\"maximize\" or \"minimize\".")
    if inspect.isabstract(found):
        raise UserError(f"Metric {text!r}: {name} does not implement "
                        f"{', '.join(sorted(found.__abstractmethods__))}.")
    return found
