"""Who keeps the lab: a device in quarantine, because its children were killed again and again, is
well; it is released, or it would not be disturbed any more."""

from collections import Counter

from searcher.client.http import CoordinatorClient


class Keeper:
    """``released`` counts how often each device was."""

    def __init__(self, client: CoordinatorClient) -> None:
        self._client = client
        self.released: Counter[str] = Counter()

    def release(self) -> None:
        for row in self._client.devices():
            if row.state == "quarantined":
                self._client.set_device_state(row.name, "active")
                self.released[row.name] += 1
