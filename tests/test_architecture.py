"""The structure of the project, beside the contracts of ``lint-imports``; every check is tested."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("agents", "profiles", "strategies", "searcher")
FOLDERS = (*PACKAGES, "fleetfront_testing", "tests", "benchmarks", "examples", "docs")
MOST_LINES = 400
MOST_MODULES = 20
LONGER = {
    # path: why it may be longer than MOST_LINES
    "tests/searcher_tests/dispatch/test_coordinator.py": "the queue's rules in one laboratory",
}


# -- imports by syntax tree ----------------------------------------------------------------


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """(imported module, whether inside a function or for type checkers only) for every import;
    relative ones as ``.``."""
    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), inside
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
            inside = inside or node.test.id == "TYPE_CHECKING"
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    return walk(ast.parse(source), False)


def foreign(source: str, known: set[str], functions_too: bool) -> list[str]:
    """Imports of ``source`` that are neither standard library nor in ``known``."""
    allowed = known | sys.stdlib_module_names
    return [name for name, inside in imports(source)
            if name.partition(".")[0] not in allowed and (functions_too or not inside)]


def test_agents_import_the_standard_library_only():
    """Runtimes import theirs (onnxruntime, ...) inside functions of the child process."""
    found = {}
    for file in sorted((REPOSITORY / "agents").rglob("*.py")):
        runtime = "runtimes" in file.relative_to(REPOSITORY).parts
        odd = foreign(file.read_text(), {"agents"}, functions_too=not runtime)
        if odd:
            found[str(file)] = odd
    assert found == {}


def test_importing_the_python_api_imports_nothing_of_the_searcher():
    source = (REPOSITORY / "fleetfront.py").read_text()
    assert foreign(source, {"searcher", "torch"}, functions_too=True) == []
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, fleetfront; print(*sys.modules)"], cwd=REPOSITORY,
        check=True, capture_output=True, text=True).stdout.split()
    assert "fleetfront" in loaded
    assert [name for name in loaded if name.partition(".")[0] in (*PACKAGES, "torch")] == []


@pytest.mark.parametrize(("source", "functions_too", "found"), [
    ("import requests", False, ["requests"]),
    ("try:\n    import numpy.linalg\nexcept ImportError:\n    pass", False, ["numpy.linalg"]),
    ("from . import client", False, ["."]),
    ("if True:\n    from psutil import Process", False, ["psutil"]),
    ("class A:\n    import torch", False, ["torch"]),
    ("def f():\n    import onnxruntime", False, []),
    ("def f():\n    import onnxruntime", True, ["onnxruntime"]),
    ("import os.path\nfrom agents.platform.files import x", True, []),
])
def test_the_import_checker_sees(source, functions_too, found):
    assert foreign(source, {"agents"}, functions_too) == found


# -- import-linter's contracts, on a toy project ----------------------------------------------


def contracts() -> list[dict]:
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    return document["tool"]["importlinter"]["contracts"]


def toy_project(folder: Path, violations: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Our contracts on empty modules of the same names, some of which import what they must not."""
    named = {"agents.protocol", "searcher.search.loop", "searcher.search.process",
             "strategies.base", "searcher.devices.target", "strategies.target"}
    for contract in contracts():
        for key in ("source_modules", "forbidden_modules", "protected_modules",
                    "allowed_importers"):
            named |= set(contract.get(key, ()))
        for container in contract.get("containers", ()):
            named |= {f"{container}.{module.strip()}" for layer in contract["layers"]
                      for module in layer.split("|")}
    named |= set(violations)
    # Only what something imports is in the graph, and contracts must find what they name.
    sources = {"searcher.search.process":
               "import searcher.search.sampling\nimport agents.protocol\n",
               "searcher.devices.target": "import strategies.target\n",
               "searcher.search.sampling": "import optuna\n", "strategies.base": "import torch\n"}
    for name in sorted(n for n in named if n.partition(".")[0] in PACKAGES):
        parts = name.split(".")
        inner = any(other.startswith(name + ".") for other in named) or len(parts) == 1
        file = folder.joinpath(*parts, "__init__.py") if inner else folder.joinpath(
            *parts[:-1], parts[-1] + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        for package in list(file.parents)[:len(parts) - (not inner)]:
            (package / "__init__.py").touch()
        file.write_text(sources.get(name, "") + violations.get(name, ""))
    for package in PACKAGES:
        (folder / package).mkdir(exist_ok=True)
        (folder / package / "__init__.py").touch()
    text = (REPOSITORY / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(text[text.index("[tool.importlinter]"):])
    linter = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(linter), "--no-cache"], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200", "NO_COLOR": "1"})


def verdicts(said: str) -> dict[str, str]:
    """Verdict by contract id; a name and its verdict may stand on two lines."""
    flat = " ".join(said.split())
    return {c["id"]: next((word for word in ("KEPT", "BROKEN") if f"{c['name']} {word}" in flat),
                          "missing") for c in contracts()}


def test_an_innocent_project_keeps_every_contract(tmp_path):
    done = toy_project(tmp_path, {})
    assert set(verdicts(done.stdout).values()) == {"KEPT"}, done.stdout + done.stderr
    assert done.returncode == 0


def test_every_contract_breaks_when_it_is_violated(tmp_path):
    done = toy_project(tmp_path, {
        "profiles.schema": "import strategies.base\n",             # layers
        "searcher.spec": "import searcher.artifacts\n",            # order
        "searcher.local": "import agents.doctor\n",                # protocol-only
        "searcher.results": "import optuna\n",                     # optuna
        "searcher.cli": "import searcher.search.sampling\n",       # sampling
        "searcher.dispatch.coordinator": "import searcher.tasks\n",  # coordinator, indirectly
        "searcher.tasks": "import strategies.base\n",
        "agents.platform.files": "import psutil\n",                # agents
        "agents.timing.blocks": "import agents.meters\n",          # agents-layers
    })
    assert set(verdicts(done.stdout).values()) == {"BROKEN"}, done.stdout + done.stderr
    assert done.returncode == 1


# -- what processes really load -------------------------------------------------------------


def loaded(code: str) -> set[str]:
    """Top-level modules, and modules of strategies, in a fresh process after ``code``."""
    script = f"import json, sys\n{code}\nsys.stderr.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          cwd=REPOSITORY, check=True)
    return {name if name.startswith("strategies.") else name.partition(".")[0]
            for name in json.loads(done.stderr.splitlines()[-1])}


HELP = """
sys.argv = ["fleetfront", "--help"]
from searcher.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""


def test_help_loads_nothing_heavy():
    assert not loaded(HELP) & {"torch", "optuna", "numpy", "scipy", "onnxruntime", "fastapi"}


def test_the_coordinator_process_loads_neither_torch_nor_optuna_nor_a_strategy():
    found = loaded("import searcher.api.server, searcher.dispatch.coordinator, searcher.workers."
                   "process_pool")
    assert not found & {"torch", "optuna", "onnxruntime"}
    assert {name for name in found if name.startswith("strategies.")} == {
        "strategies.number_formats", "strategies.target"}


def test_the_loading_checker_sees():
    assert "optuna" in loaded("import optuna")


# -- length ---------------------------------------------------------------------------------


def too_long(files: dict[str, str], longer: dict[str, str]) -> dict[str, int]:
    """Files of more than ``MOST_LINES`` lines that are no exception, with their length."""
    return {name: len(text.splitlines()) for name, text in files.items()
            if len(text.splitlines()) > MOST_LINES and name not in longer}


def test_files_are_short():
    found = {str(file.relative_to(REPOSITORY)): file.read_text()
             for folder in FOLDERS for pattern in ("*.py", "*.md", "*.toml", "*.sh", "*.js")
             for file in (REPOSITORY / folder).rglob(pattern)}
    assert len(found) > 100
    assert too_long(found, LONGER) == {}
    assert all(len(found[name].splitlines()) > MOST_LINES for name in LONGER), "no longer needed"


def test_the_length_checker_sees():
    files = {"a.py": "x\n" * 401, "b.py": "x\n" * 400, "c.py": "x\n" * 500}
    assert too_long(files, {"c.py": "a table"}) == {"a.py": 401}


# -- packages and names ---------------------------------------------------------------------


def modules_of(files: Iterable[str]) -> Counter[str]:
    """The number of modules directly in each package."""
    return Counter(str(Path(name).parent) for name in files
                   if name.endswith(".py") and not name.endswith("/__init__.py"))


def homonyms(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Public classes of one name in several modules."""
    places: dict[str, list[str]] = {}
    for name, source in sorted(sources.items()):
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name)
    return {name: found for name, found in places.items() if len(found) > 1}


def sources_of(*packages: str) -> dict[str, str]:
    return {str(file.relative_to(REPOSITORY)): file.read_text()
            for package in packages for file in (REPOSITORY / package).rglob("*.py")}


def test_packages_are_small():
    found = modules_of(sources_of(*PACKAGES))
    assert found["searcher"] <= 3
    assert {name for name, count in found.items() if count > MOST_MODULES} <= {"searcher/cli"}


def test_a_class_name_has_one_meaning():
    assert homonyms(sources_of("searcher")) == {}
    assert homonyms(sources_of("agents")) == {}
    assert homonyms(sources_of("strategies")) == {}


def test_the_checkers_of_packages_and_names_see():
    sources = {"a/b.py": "class Side: ...", "a/c.py": "class Side: ...\nclass _Own: ...",
               "a/__init__.py": "class _Own: ..."}
    assert modules_of(sources) == {"a": 2}
    assert homonyms(sources) == {"Side": ["a/b.py", "a/c.py"]}


UNTYPED = re.compile(r"\b(Mapping|[dD]ict)\[str, Any\]")
EDGES = ("searcher/api/", "searcher/ledger/", "profiles/schema.py", "agents/__main__.py")
"""HTTP, the ledger and the files of profiles; in the last one, ``sys.modules``."""


def test_documents_are_parsed_at_the_edges():
    found = {name for name, source in sources_of(*PACKAGES).items() if UNTYPED.search(source)}
    assert {name for name in found if not name.startswith(EDGES)} == set()
    assert all(any(name.startswith(edge) for name in found) for edge in EDGES), "no longer needed"
