"""Releases devices from quarantine.

Repeated SIGKILLs of measurement processes put a device into quarantine, where it gets no jobs. It
is released so that the run can continue to inject faults into it.
"""

from collections import Counter

from searcher.client.http import CoordinatorClient


class QuarantineRelease:
    """``released`` counts the releases per device."""

    def __init__(self, client: CoordinatorClient) -> None:
        self._client = client
        self.released: Counter[str] = Counter()

    def release(self) -> None:
        """Sets all quarantined devices to active."""
        for row in self._client.devices():
            if row.state == "quarantined":
                self._client.set_device_state(row.name, "active")
                self.released[row.name] += 1
