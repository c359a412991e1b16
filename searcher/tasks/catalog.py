"""Built-in tasks by name, and a user's own by ``package.module:factory``."""

import functools
import importlib
import os
import sys

from searcher.errors import FleetfrontError, UserError, nearest
from searcher.tasks.base import Task
from searcher.tasks.builtin import TASKS


@functools.cache
def task(name: str) -> Task:
    """The task ``name``. Raises UserError when it is unknown or cannot be imported."""
    place = TASKS.get(name, name)
    if ":" not in place:
        raise UserError(
            f"Unknown task {name!r}. {nearest(name, TASKS)} "
            "Your own task is written \"package.module:factory\"."
        )
    module_name, _, factory_name = place.partition(":")
    if os.getcwd() not in sys.path:
        # A console script has its own folder there, `python -m` the current one.
        sys.path.append(os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except Exception as error:  # a user's module may raise anything
        raise UserError(
            f"Task {name!r} cannot be imported: {error}. Install its package in this "
            "environment, or run from the folder that holds it."
        ) from error
    try:
        made = factory()
    except FleetfrontError:
        raise
    except Exception as error:
        raise UserError(f"Task {name!r}: {factory_name} failed with {type(error).__name__}: "
                        f"{error}") from error
    if not isinstance(made, Task):
        raise UserError(f"Task {name!r}: {factory_name}() gave {type(made).__name__}, not a "
                        "searcher.tasks.base.Task.")
    return made
