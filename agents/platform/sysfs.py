"""The only reader of /sys and /proc. ``root`` stands for ``/``, so that tests bring a tree."""

import glob
import os
from typing import Dict, List, Optional


class Tree:
    """A file system below ``root``. Reading never raises: what cannot be read is None."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def text(self, path: str) -> Optional[str]:
        """The stripped text of one file; None if absent, unreadable or empty."""
        try:
            with open(os.path.join(self.root, path.lstrip("/")), "rb") as stream:
                content = stream.read()
        except OSError:
            return None
        # Device-tree strings end in a NUL byte.
        return content.decode("utf-8", "replace").strip("\0 \t\r\n") or None

    def is_there(self, path: str) -> bool:
        """Whether the file exists, readable or not."""
        return os.path.lexists(os.path.join(self.root, path.lstrip("/")))

    def integer(self, path: str) -> Optional[int]:
        text = self.text(path)
        try:
            return int(text) if text is not None else None
        except ValueError:
            return None

    def paths(self, pattern: str) -> List[str]:
        """Sorted paths below the root, written as if the root were ``/``."""
        found = glob.glob(os.path.join(self.root, pattern.lstrip("/")))
        return sorted("/" + os.path.relpath(path, self.root) for path in found)

    def fields(self, path: str) -> Dict[str, str]:
        """A file of ``key: value`` lines (cpuinfo, meminfo, status); a key's first value counts."""
        found: Dict[str, str] = {}
        for line in (self.text(path) or "").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                found.setdefault(key.strip(), value.strip())
        return found

    def kibibytes(self, path: str, key: str) -> Optional[int]:
        """Bytes of a ``key: 123 kB`` line."""
        words = self.fields(path).get(key, "").split()
        if len(words) != 2 or words[1] != "kB" or not words[0].isdigit():
            return None
        return int(words[0]) * 1024
