"""The text of a metric as name and parameters, and what a metric takes of them."""

import ast
import inspect
from collections.abc import Callable, Mapping

from searcher.errors import nearest

FORMS = ("A metric is written as \"accuracy\", with parameters as \"mean_iou(ignore_index=255)\", "
         "as \"torchmetrics.MeanAbsoluteError\", or, your own, as \"package.module:Class\".")


def parsed(text: str) -> tuple[str, Mapping[str, object]]:
    """Name and parameters, which are literals. Raises ValueError that says what cannot be read."""
    name, opened, rest = text.partition("(")
    name = name.strip()
    if not name:
        raise ValueError(f"it has no name. {FORMS}")
    if not opened:
        return name, {}
    found: dict[str, object] = {}
    for keyword in _keywords(rest):
        try:
            found[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(f"{keyword.arg} is {ast.unparse(keyword.value)}; expected a number, a "
                             "text in quotes, True, False, None or a list of these.") from error
    return name, found


def _keywords(rest: str) -> list[ast.keyword]:
    """Of what follows the opening parenthesis."""
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        call = None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"found {'(' + rest!r}, expected parameters such as (ignore_index=255). "
                         f"{FORMS}")
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError("a parameter has no name; expected as in \"mean_iou(ignore_index=255)\".")
    return call.keywords


def check_parameters(metric: str, make: Callable[..., object],
                     parameters: Mapping[str, object]) -> None:
    """Raises ValueError for parameters that ``make`` does not have or that it lacks."""
    known = {p.name: p for p in inspect.signature(make).parameters.values()
             if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for name in parameters:
        if name not in known:
            raise ValueError(f"there is no parameter {name!r}. {nearest(name, known)}")
    missing = [p.name for p in known.values()
               if p.default is p.empty and p.name not in parameters]
    if missing:
        raise ValueError(f"the parameter {missing[0]!r} is missing: write "
                         f"\"{metric}({missing[0]}=...)\".")
