"""Reads /sys and /proc. ``root`` replaces ``/``, so that tests can use a recorded tree."""

import glob
import os
from typing import Dict, List, Optional


class SystemTree:
    """The files below ``root``. Reading does not raise: the value of an unreadable file is None."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def text(self, path: str) -> Optional[str]:
        """The text of one file without surrounding white space; None if absent, unreadable or
        empty."""
        try:
            with open(os.path.join(self.root, path.lstrip("/")), "rb") as stream:
                content = stream.read()
        except OSError:
            return None
        # Strings of the device tree end in a NUL byte.
        return content.decode("utf-8", "replace").strip("\0 \t\r\n") or None

    def is_there(self, path: str) -> bool:
        """Whether the file exists, even if it cannot be read."""
        return os.path.lexists(os.path.join(self.root, path.lstrip("/")))

    def integer(self, path: str) -> Optional[int]:
        """The integer in one file; None if there is none."""
        text = self.text(path)
        try:
            return int(text) if text is not None else None
        except ValueError:
            return None

    def paths(self, pattern: str) -> List[str]:
        """Sorted paths that match a shell pattern, relative to the root, with a leading slash."""
        found = glob.glob(os.path.join(self.root, pattern.lstrip("/")))
        return sorted("/" + os.path.relpath(path, self.root) for path in found)

    def fields(self, path: str) -> Dict[str, str]:
        """The values of a file of ``key: value`` lines, such as cpuinfo; the first of each key."""
        found: Dict[str, str] = {}
        for line in (self.text(path) or "").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                found.setdefault(key.strip(), value.strip())
        return found

    def kibibytes(self, path: str, key: str) -> Optional[int]:
        """The bytes of a line ``key: 123 kB``; None if absent."""
        words = self.fields(path).get(key, "").split()
        if len(words) != 2 or words[1] != "kB" or not words[0].isdigit():
            return None
        return int(words[0]) * 1024
