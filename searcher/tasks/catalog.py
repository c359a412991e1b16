"""Built-in tasks by name, and a user's own by ``package.module:factory``."""

import functools
import importlib
import os
import sys
from collections.abc import Callable

from searcher.errors import FleetfrontError, TaskError, UserError, nearest
from searcher.tasks.base import Task
from searcher.tasks.builtin import TASKS
from searcher.tasks.user_code import described, raised


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
    factory = _factory(name, module_name, factory_name)
    try:
        made = factory()
    except FleetfrontError:
        raise
    except Exception as error:
        raise TaskError(f"Task {name!r}: {factory_name}() raised {raised(error)} It must return a "
                        "fleetfront.Task without arguments.") from error
    if not isinstance(made, Task):
        raise TaskError(f"Task {name!r}: {factory_name}() gave {described(made)}, expected a "
                        "fleetfront.Task.")
    return made


def _factory(name: str, module_name: str, factory_name: str) -> Callable[[], object]:
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise TaskError(
            f"Task {name!r}: the module {module_name!r} cannot be imported: {raised(error)} "
            "Install its package in this environment, correct it, or run from the folder that "
            "holds it.") from error
    factory: object = getattr(module, factory_name, None)
    if not callable(factory):
        functions = [key for key, value in vars(module).items() if callable(value) and (
            getattr(value, "__module__", None) == module_name)]
        raise TaskError(f"Task {name!r}: {module_name!r} has no function {factory_name!r}. "
                        f"{nearest(factory_name, functions)}")
    return factory
