"""``DeviceProfile``: known facts about a kind of device, one TOML file each."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FORMATS = {"float32", "float16", "int8"}
UNVERIFIED = "unverified: "
"""The source of a fact starts so if it was inferred, or comes from one uncertain source."""
_NO_FACTS = {"name", "description", "runtime", "sources"}
_NEEDED = {"name", "description", "runtime", "number_formats", "sources"}


class ProfileError(Exception):
    """A profile is unknown or its file is wrong; the message names the file and the key."""


@dataclass(frozen=True)
class Rails:
    """Names of power rails as meters report them, as shell patterns.

    The sum of ``total`` is the power that ``covers`` describes. ``parts`` are included in this sum,
    ``others`` are not; both are never added to it, even if a pattern of ``total`` matches them.
    """

    total: tuple[str, ...]
    covers: str
    parts: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class PowerMode:
    """The highest clocks of one power mode in kHz, the CPU by cluster. Clocks without a cap and
    unknown clocks are absent. ``id`` is that of nvpmodel, ``cores`` the number online."""

    name: str
    id: int | None = None
    cores: int | None = None
    cpu_khz: Mapping[str, int] | None = None
    gpu_khz: int | None = None
    emc_khz: int | None = None


@dataclass(frozen=True)
class DeviceProfile:
    """Facts about a kind of device; unknown ones are None or empty.

    ``number_formats`` are those in which the hardware computes, ``opset`` and ``ir_version`` the
    newest versions to export for it, ``sources`` has the source of each fact.
    """

    name: str
    description: str
    runtime: str
    number_formats: frozenset[str]
    sources: Mapping[str, str]
    int8_activations: str | None = None
    runtime_version: str | None = None
    opset: int | None = None
    ir_version: int | None = None
    python: str | None = None
    machine: str | None = None
    boards: tuple[str, ...] = ()
    soc: str | None = None
    compute_capability: str | None = None
    memory_bytes: tuple[int, ...] = ()
    software: Mapping[str, str] | None = None
    rails: Rails | None = None
    power_modes: tuple[PowerMode, ...] = ()
    gpu_clock: str | None = None
    ignored_zones: tuple[str, ...] = ()

    @property
    def unverified(self) -> tuple[str, ...]:
        """The facts whose source marks them as unconfirmed."""
        return tuple(fact for fact, source in self.sources.items() if source.startswith(UNVERIFIED))

    def as_dict(self) -> dict[str, object]:
        """The known facts as JSON."""
        document = {**asdict(self), "number_formats": sorted(self.number_formats)}
        known: dict[str, object] = _known(document)
        return known


def _known(value: Any) -> Any:
    """``value`` without None and empty parts, with lists instead of tuples."""
    if isinstance(value, Mapping):
        return {k: _known(v) for k, v in value.items() if v not in (None, (), [], {})}
    return [_known(item) for item in value] if isinstance(value, tuple | list) else value


def names() -> list[str]:
    """The names of all profiles, sorted."""
    return sorted(p.stem for p in FOLDER.glob("*.toml") if p.stem != "runtimes")


@cache
def profile(name: str) -> DeviceProfile:
    """The profile ``name``. Raises ProfileError."""
    if name not in names():
        raise ProfileError(f"Unknown device profile {name!r}. Known: {', '.join(names())}.")
    try:
        document = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"profiles/{name}.toml cannot be read as TOML: {error}.") from error
    return parse(name, document)


def parse(name: str, document: Mapping[str, Any]) -> DeviceProfile:
    """Build a profile from its parsed file. Raises ProfileError for missing or unknown keys, for
    facts without a source, and for facts that contradict each other."""
    here = f"profiles/{name}.toml"
    known = {f.name for f in fields(DeviceProfile)}
    odd = sorted((set(document) - known) | (_NEEDED - set(document)))
    if odd:
        raise ProfileError(f"{here}: missing or unknown keys: {', '.join(odd)}.")
    told, sourced = set(document) - _NO_FACTS, set(document["sources"])
    if told ^ sourced:
        raise ProfileError(f"{here}: every fact needs a source, and every source a fact: "
                           f"{', '.join(sorted(told ^ sourced))}.")
    try:
        found = DeviceProfile(**{**document, **_tables(document), **{
            key: tuple(document[key]) for key in ("boards", "memory_bytes", "ignored_zones")
            if key in document}})
    except TypeError as error:
        raise ProfileError(f"{here}: [rails] or [[power_modes]]: {error}.") from error
    _check(here, name, found)
    return found


def _tables(document: Mapping[str, Any]) -> dict[str, Any]:
    tables: dict[str, Any] = {"number_formats": frozenset(document["number_formats"])}
    if "rails" in document:
        rails: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                                 for name, value in document["rails"].items()}
        tables["rails"] = Rails(**rails)
    if "power_modes" in document:
        tables["power_modes"] = tuple(PowerMode(**mode) for mode in document["power_modes"])
    return tables


def _check(here: str, name: str, found: DeviceProfile) -> None:
    if found.name != name:
        raise ProfileError(f"{here}: name = {found.name!r} must be {name!r}.")
    if not found.number_formats <= FORMATS:
        raise ProfileError(f"{here}: number_formats must be among {', '.join(sorted(FORMATS))}.")
    wanted = ("uint8", "int8") if "int8" in found.number_formats else (None,)
    if found.int8_activations not in wanted:
        raise ProfileError(f"{here}: int8_activations = {found.int8_activations!r} must be "
                           "\"uint8\" or \"int8\" with int8 in number_formats, else absent.")
    if (found.opset is None) != (found.ir_version is None):
        raise ProfileError(f"{here}: give opset and ir_version together or not at all.")
    if found.runtime_version is not None:
        limits = runtime_limits(found.runtime_version)
        if (found.opset, found.ir_version) != limits:
            raise ProfileError(
                f"{here}: opset {found.opset}, ir_version {found.ir_version}; ONNX Runtime "
                f"{found.runtime_version} loads {limits[0]}, {limits[1]} (profiles/runtimes.toml).")


def runtime_limits(version: str) -> tuple[int, int]:
    """(opset, IR version) that ONNX Runtime ``version`` loads; for a newer version than the table
    has, those of its newest one.

    Raises ProfileError for a version older than the table, and for a malformed one.
    """
    table = _limits()
    wanted = _key(version)
    below = [v for v in table if _key(v) <= wanted]
    if not below:
        oldest = min(table, key=_key)
        raise ProfileError(f"ONNX Runtime {version} is older than any known one ({oldest}).")
    limits = table[max(below, key=_key)]
    return limits["opset"], limits["ir_version"]


@cache
def _limits() -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = tomllib.loads(
        (FOLDER / "runtimes.toml").read_text())["onnxruntime"]
    return table


def _key(version: str) -> tuple[int, int]:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    if not (major.isdecimal() and minor.isdecimal() and len(version) < 100):
        raise ProfileError(f"ONNX Runtime {version[:40]!r} is not a version such as 1.11.0.")
    return int(major), int(minor)
