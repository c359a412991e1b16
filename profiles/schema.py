"""``DeviceProfile``: what a device loads and computes with. One device, one TOML."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FORMATS = {"float32", "float16", "int8"}


class ProfileError(Exception):
    """A profile is unknown or its file is wrong; the message names the file and the key."""


@dataclass(frozen=True)
class DeviceProfile:
    """``opset`` and ``ir_version`` bound what is exported for the device; ``number_formats`` what
    its hardware computes with; ``sources`` says where each fact comes from."""

    name: str
    description: str
    runtime: str
    number_formats: frozenset[str]
    int8_activations: str
    opset: int
    ir_version: int
    threads: int
    sources: Mapping[str, str]


def names() -> list[str]:
    """All profiles, sorted."""
    return sorted(p.stem for p in FOLDER.glob("*.toml") if p.stem != "runtimes")


def profile(name: str) -> DeviceProfile:
    """The profile ``name``. Raises ProfileError."""
    if name not in names():
        raise ProfileError(f"Unknown device profile {name!r}. Known: {', '.join(names())}.")
    return parse(name, tomllib.loads((FOLDER / f"{name}.toml").read_text()))


def parse(name: str, document: Mapping[str, Any]) -> DeviceProfile:
    """A profile from its parsed file; every key is needed, none is unknown. Raises ProfileError."""
    known = {f.name for f in fields(DeviceProfile)}
    odd = sorted(set(document) ^ known)
    if odd:
        raise ProfileError(f"profiles/{name}.toml: missing or unknown keys: {', '.join(odd)}.")
    formats = frozenset(document["number_formats"])
    if not formats <= FORMATS or document["name"] != name:
        raise ProfileError(f"profiles/{name}.toml: number_formats must be among {sorted(FORMATS)} "
                           f"and name must be {name!r}.")
    return DeviceProfile(**{**document, "number_formats": formats})


def runtime_limits(version: str) -> tuple[int, int]:
    """(opset, IR version) that an ONNX Runtime ``version`` loads; the newest known at most.

    Raises ProfileError for versions older than the table.
    """
    table = tomllib.loads((FOLDER / "runtimes.toml").read_text())["onnxruntime"]
    wanted = _key(version)
    below = [v for v in table if _key(v) <= wanted]
    if not below:
        raise ProfileError(f"ONNX Runtime {version} is older than any known one ({min(table)}).")
    limits = table[max(below, key=_key)]
    return limits["opset"], limits["ir_version"]


def _key(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
