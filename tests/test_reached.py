"""Which test files ``make check`` runs."""

from pathlib import Path

import pytest

from tests.reached import ALWAYS, REPOSITORY, SLOW, Reach

IMPORTED = "tests/searcher_tests/pareto/test_front.py"
BY_FIXTURE = "tests/searcher_tests/builders/test_builder.py"
BY_PROCESS = "tests/searcher_tests/api/test_server.py"


@pytest.fixture(scope="module")
def reach() -> Reach:
    return Reach(REPOSITORY)


@pytest.mark.parametrize(("changed", "reached", "left_out"), [
    ("searcher/pareto/front.py", IMPORTED, "tests/agents_tests/coordinator/test_http.py"),
    ("agents/coordinator/http.py", "tests/agents_tests/coordinator/test_http.py", IMPORTED),
    ("tests/tasks_for_tests.py", BY_FIXTURE, IMPORTED),
    ("searcher/builders/process.py", BY_PROCESS, IMPORTED),
    ("strategies/structure/tucker.py", "tests/contract/test_strategies.py", IMPORTED),
    ("tests/searcher_tests/conftest.py", BY_FIXTURE, "tests/agents_tests/coordinator/test_http.py"),
    ("docs/strategies.md", "tests/test_docs.py", IMPORTED),
    (IMPORTED, IMPORTED, BY_FIXTURE),
])
def test_a_change_reaches(reach: Reach, changed: str, reached: str, left_out: str) -> None:
    assert (REPOSITORY / changed).exists()
    found = reach.tests([changed])
    assert reached in found and left_out not in found and found >= ALWAYS


def test_other_files_reach_all_but_the_slow_ones(reach: Reach) -> None:
    found = reach.tests(["profiles/jetson_tx2.toml"])
    assert {IMPORTED, BY_FIXTURE, BY_PROCESS} <= found
    assert not any(file.startswith(SLOW) for file in found)


def test_a_slow_file_is_run_when_it_has_changed(reach: Reach) -> None:
    assert reach.tests([SLOW[-1]]) == {SLOW[-1], *ALWAYS}


def test_relative_imports_and_programs_count(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    folder.mkdir()
    for name, source in {"__init__": "", "a": "from . import b\n", "b": "", "__main__": "",
                         "c": "print('of agents.b', ['python', '-m', 'agents'])\n"}.items():
        (folder / f"{name}.py").write_text(source)
    named = Reach(tmp_path).named
    assert named["agents.a"] == {"agents", "agents.b"}
    assert named["agents.c"] == {"agents", "agents.b", "agents.__main__"}
