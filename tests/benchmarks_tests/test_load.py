"""The bare server, the switches, and the bound of the load benchmark."""

import asyncio
import subprocess
import sys

import httpx
import pytest

from agents import protocol
from benchmarks.load.bare import bare_app
from benchmarks.load.mechanisms import ALL, BARE, Figures, Run, checks_of
from benchmarks.load.switched_off import SWITCHES


@pytest.mark.parametrize(("method", "path", "message"), [
    ("POST", "/v1/lease", protocol.Lease), ("POST", "/v1/heartbeat", protocol.HeartbeatAnswer),
    ("PUT", "/v1/results/7/1?fence=3", protocol.ResultAnswer)])
def test_a_bare_server_answers_with_the_coordinators_messages(
        method: str, path: str, message: type) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(bare_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://bare") as client:
            return await client.request(method, path, content=b"x" * 10_000)

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    assert isinstance(protocol.decode(message, answer.content), message)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_finds_the_code_that_it_replaces(name: str) -> None:
    program = f"from benchmarks.load.switched_off import SWITCHES; SWITCHES[{name!r}]()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def run(name: str, cpu_ms: float, refused: int = 0) -> Run:
    figures = Figures(cpu_ms, 0.0, 100.0, 5.0, refused)
    return Run(name, figures, figures)


@pytest.mark.parametrize(("cpu_ms", "refused", "passed"), [
    (0.4, 0, [True, True, True]), (0.41, 0, [False, False, True]), (0.3, 1, [True, True, False])])
def test_the_bound_is_four_times_a_bare_server(
        cpu_ms: float, refused: int, passed: list[bool]) -> None:
    checks = checks_of([run(ALL, cpu_ms, refused), run(BARE, 0.1), run(ALL, cpu_ms)])
    assert [check.passed for check in checks] == passed
