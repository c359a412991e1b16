"""A store of engines that were built on this device, of bounded size: ``<key>.engine``."""

import os
from typing import Mapping

from agents.platform.bounded_folder import evict, file_sha256, mark_used
from agents.protocol import canonical_json, content_sha256

LIMIT_BYTES = 2 << 30
ENGINE = ".engine"


class EngineStore:
    """An engine is identified by the model file, the build options and the builder's version.
    ``folder`` also holds the timing caches, which are small and not evicted."""

    def __init__(self, folder: str, version: str, limit_bytes: int = LIMIT_BYTES) -> None:
        """Raises OSError."""
        self._folder, self._version, self._limit_bytes = folder, version, limit_bytes
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def path(self, model: str, options: Mapping[str, object]) -> str:
        """The path of the engine, present or not. Raises OSError if ``model`` cannot be read."""
        key = content_sha256(canonical_json([file_sha256(model), options, self._version]))
        return os.path.join(self._folder, key[:40] + ENGINE)

    def timing_cache(self) -> str:
        return os.path.join(self._folder, "timing-{}.cache".format(self._version))

    def has(self, path: str) -> bool:
        """Whether the engine exists; marks it as used."""
        try:
            mark_used(path)
        except FileNotFoundError:
            return False
        return os.path.exists(path)

    def keep(self, partial: str, path: str) -> int:
        """Renames ``partial`` to the engine's path, evicts the least recently used engines, and
        returns the engine's bytes. Raises OSError."""
        os.replace(partial, path)
        newest = os.path.basename(path)
        evict(self._folder, self._limit_bytes, lambda name: name == newest, ENGINE)
        return os.path.getsize(path)
