"""``python -m tests.reached [COMMIT]``: the test files that the changes since COMMIT can reach.

COMMIT is HEAD unless named, or the one before it where nothing has changed since.

A module reaches what it imports and what its strings name: the catalog's modules, tasks, and the
programs of child processes (``-m searcher.builders.process``). A test file also reaches what the
fixtures that it asks for reach. Files of ``ALWAYS`` look at the whole tree. A changed file that is
neither Python nor Markdown reaches every test file. Files of ``SLOW`` are left out unless they have
changed themselves: ``make test`` runs them.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("agents", "profiles", "strategies", "searcher", "benchmarks", "tests")
SLOW = ("tests/system", "tests/ort111", "tests/test_python36.py", "tests/test_wheel.py")
ALWAYS = frozenset({"tests/test_architecture.py", "tests/test_docs.py"})
COMMAND = ".with_name('fleetfront')"
NAMES = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
PROGRAM = re.compile(r"-m[\s'\",]+(\w+)")


class Reach:
    """Which files below ``root`` reach which."""

    def __init__(self, root: Path) -> None:
        self.root = root
        files = [root / "fleetfront.py", *(file for package in PACKAGES
                                           for file in (root / package).rglob("*.py"))]
        self.files = {_module(file.relative_to(root)): file for file in files if file.exists()}

    @cached_property
    def named(self) -> dict[str, set[str]]:
        """Modules that each module imports or names, and the fixtures that it asks for."""
        trees = {name: ast.parse(file.read_bytes()) for name, file in self.files.items()}
        fixtures = {name: {node.name for node in ast.walk(tree)
                           if isinstance(node, ast.FunctionDef)}
                    for name, tree in trees.items() if name.endswith(".conftest")}
        found = {}
        for name, tree in trees.items():
            nodes = list(ast.walk(tree))
            asked = {argument.arg for node in nodes if isinstance(node, ast.FunctionDef)
                     for argument in node.args.args}
            above = {conftest for conftest, given in fixtures.items()
                     if name.startswith(conftest.removesuffix("conftest")) and given & asked}
            found[name] = ({*self._known(_names(nodes, name, self.files[name])), *above}
                           | self._packed(nodes)) - {name}
        return found

    def _packed(self, nodes: Iterable[ast.AST]) -> set[str]:
        """All modules of a package that is looked up to be packed into an archive."""
        packages = {str(argument.value) for node in nodes if isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name) and node.func.id == "find_spec"
                    for argument in node.args if isinstance(argument, ast.Constant)}
        return {name for name in self.files for package in packages
                if name.startswith(f"{package}.")}

    def _known(self, names: Iterable[str]) -> Iterator[str]:
        """The modules among ``names`` of modules or of what is in them, and their packages."""
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1)
                        if ".".join(parts[:n]) in self.files)

    def tests(self, changed: Iterable[str]) -> set[str]:
        """Test files, relative to ``root``, that reach one of the ``changed`` files."""
        paths = set(changed)
        every = {str(file.relative_to(self.root)) for file in self.files.values()
                 if file.name.startswith("test_")}
        if all(Path(path).suffix in (".py", ".md") for path in paths):
            reached = {_module(Path(path)) for path in paths}
            for name in [name for name in reached if name.endswith(".conftest")]:
                reached |= {other for other in self.files
                            if other.startswith(name.removesuffix("conftest"))}
            while more := {name for name, others in self.named.items()
                           if name not in reached and others & reached}:
                reached |= more
            every = {file for file in every if _module(Path(file)) in reached}
        return {*ALWAYS, *(file for file in every if file in paths or not file.startswith(SLOW))}


def _module(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _names(nodes: Sequence[ast.AST], module: str, file: Path) -> Iterator[str]:
    """What a source file imports, and what its strings other than docstrings name."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[:len(package.split(".")) - node.level + 1]
            origin = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) \
                and ast.unparse(node).endswith(COMMAND):
            yield "searcher.cli.main"
        elif isinstance(node, (ast.List, ast.Tuple)):
            words = [getattr(word, "value", None) for word in node.elts]
            yield from (f"{word}.__main__" for option, word in pairwise(words) if option == "-m")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) \
                and id(node) not in documentation:
            yield from NAMES.findall(node.value)
            yield from (f"{word}.__main__" for word in PROGRAM.findall(node.value))


def changed_since(commit: str) -> set[str]:
    """Files that differ from ``commit`` in the working tree, new ones included."""
    found: set[str] = set()
    for command in (["diff", "--name-only", commit],
                    ["ls-files", "--others", "--exclude-standard"]):
        done = subprocess.run(["git", *command], cwd=REPOSITORY, capture_output=True, text=True,
                              check=True)
        found |= set(done.stdout.split("\n")) - {""}
    return found


if __name__ == "__main__":
    [since] = sys.argv[1:] or ["HEAD"]
    files = Reach(REPOSITORY).tests(changed_since(since) or changed_since(f"{since}~1"))
    sys.stdout.write("".join(f"{file}\n" for file in sorted(files)))
