"""The folder or zip archive that holds this package, and how to start it as a program."""

import os
from typing import List, Optional

import agents


def location(package_file: Optional[str] = None) -> str:
    """The folder or archive that holds the package whose ``__init__.py`` is ``package_file``,
    which is ``agents`` unless given."""
    return os.path.dirname(os.path.dirname(os.path.abspath(package_file or agents.__file__ or "")))


def own_archive() -> Optional[str]:
    """The zip archive that holds this package, or None when it is a folder."""
    archive = location()
    return archive if os.path.isfile(archive) else None


def interpreter_arguments(holder: str) -> List[str]:
    """Arguments that make a Python interpreter run this package: the archive itself, or
    ``-m agents`` in a folder."""
    return [holder] if os.path.isfile(holder) else ["-m", "agents"]
