"""Engines that were built on this device, kept within a bound: ``<key>.engine``."""

import os
from typing import Any, Dict

from agents.platform.bounded_folder import evict, file_sha256, mark_used
from agents.protocol import canonical_json, content_sha256

LIMIT_BYTES = 2 << 30
ENGINE = ".engine"


class Engines:
    """``folder`` also holds the timing caches, which are small and stay. An engine is that of a
    file, of the options that it was built with, and of the version that built it."""

    def __init__(self, folder: str, version: str, limit_bytes: int = LIMIT_BYTES) -> None:
        """Raises OSError."""
        self._folder, self._version, self._limit_bytes = folder, version, limit_bytes
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def path(self, model: str, options: Dict[str, Any]) -> str:
        """Where the engine lies or will lie. Raises OSError when ``model`` cannot be read."""
        key = content_sha256(canonical_json([file_sha256(model), options, self._version]))
        return os.path.join(self._folder, key[:40] + ENGINE)

    def timing_cache(self) -> str:
        return os.path.join(self._folder, "timing-{}.cache".format(self._version))

    def has(self, path: str) -> bool:
        """Whether it is there; it counts as used now."""
        try:
            mark_used(path)
        except FileNotFoundError:
            return False
        return os.path.exists(path)

    def keep(self, partial: str, path: str) -> int:
        """``partial`` becomes the engine, and the ones unused for longest go until the bound holds;
        its bytes. Raises OSError."""
        os.replace(partial, path)
        newest = os.path.basename(path)
        evict(self._folder, self._limit_bytes, lambda name: name == newest, ENGINE)
        return os.path.getsize(path)
