"""Fixtures of builders."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def builder(tiny: Any, builds: Path) -> Any:
    from searcher.builders.builder import Builder

    return Builder(tiny, 0, builds)


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that are trained, in order."""
    from searcher.tasks.training_data import TrainingSplit

    seen: list[int] = []
    batches = TrainingSplit.batches

    def noted(self: TrainingSplit, epoch: int) -> Any:
        seen.append(epoch)
        return batches(self, epoch)

    monkeypatch.setattr(TrainingSplit, "batches", noted)
    return seen
