"""Packs ``agents`` into one file, ``agent.pyz``. Equal sources give equal bytes."""

import functools
import io
import zipfile
from importlib.util import find_spec
from pathlib import Path

LEFT_OUT = ("__pycache__", "page")
_MAIN = "from agents.__main__ import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@functools.cache
def agent_archive(package: Path | None = None) -> bytes:
    """A zipapp of ``package`` (default: the installed ``agents``) for Python 3.6 and later."""
    package = package or _installed()
    found = {
        f"agents/{file.relative_to(package).as_posix()}": file.read_bytes()
        for file in package.rglob("*")
        if file.is_file() and not set(file.relative_to(package).parts) & set(LEFT_OUT)
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, source in sorted({**found, "__main__.py": _MAIN.encode()}.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, source, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _installed() -> Path:
    found = find_spec("agents")
    return Path((found and found.origin) or "").parent
