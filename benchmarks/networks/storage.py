"""Where the trained weights and the crops of the photographs are kept.

``$FLEETFRONT_NETWORKS`` names the folder; the default is ``networks`` beside fleetfront's data
files. Everything in it can be made again.
"""

import os
from collections.abc import Callable
from pathlib import Path

from searcher.tasks.datasets.pinned_files import cache_folder

VARIABLE = "FLEETFRONT_NETWORKS"


def networks_folder() -> Path:
    named = os.environ.get(VARIABLE)
    return Path(named) if named else cache_folder() / "networks"


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The file ``name`` of the folder; ``make`` writes it to the given path when it is missing.
    A file that is interrupted while it is written is made again."""
    path = networks_folder() / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
        make(partial)
        partial.replace(path)
    return path
