"""Runs commands in this process, with the output and exit code that a shell would get."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from searcher.cli.main import main


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.delenv("FLEETFRONT_DEBUG", raising=False)

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["fleetfront", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        found = capsys.readouterr()
        return Answer(int(ended.value.code or 0), found.out, found.err)

    return call
