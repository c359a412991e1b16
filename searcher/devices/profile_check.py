"""Compares what a device reports with its profile. The report takes precedence, and every
contradiction is shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from profiles.number_formats import activations_on
from profiles.schema import DeviceProfile, ProfileError, profile, runtime_limits
from searcher.errors import UserError
from searcher.ledger.rows import DeviceRow

LEAST_SHARE = 0.7
"""Least share of a board's nominal memory that Linux reports; the rest is reserved."""


@dataclass(frozen=True)
class Compared:
    """``profile`` with the values that the device reported, and where they contradict it."""

    profile: DeviceProfile
    contradictions: tuple[str, ...]


def compared(
    known: DeviceProfile, fingerprint: Mapping[str, object], capabilities: Mapping[str, object]
) -> Compared:
    """Compare the report of an agent's enrolment with ``known``. Missing or malformed values are
    ignored."""
    said: list[str] = []
    found = known
    for look in (_board, _machine, _memory, _python):
        found = look(found, fingerprint, said.append)
    return Compared(_runtime(found, capabilities, said.append), tuple(said))


def of_campaign(
    device: str, named: bool, profile_name: str | None, fingerprint: Mapping[str, object],
    capabilities: Mapping[str, object],
) -> Compared:
    """The profile of a campaign's device, with its report.

    If ``named``, the profile is the one with which the device is enrolled; otherwise ``device`` is
    the name of a profile. Fingerprint and capabilities are those of its enrolment, empty if it is
    not enrolled. Raises UserError.
    """
    if named and not profile_name:
        raise UserError(f"Device {device!r} is not enrolled with a profile. Enrol it with "
                        f"`fleetfront device enrol {device} --profile PROFILE`.")
    try:
        known = profile(profile_name if named and profile_name else device)
    except ProfileError as error:
        raise UserError(f"Device {device!r}: {error}") from error
    return compared(known, fingerprint, capabilities)


def contradictions(
    name: str | None, fingerprint: Mapping[str, object], capabilities: Mapping[str, object]
) -> list[str]:
    """The contradictions of a device to the profile ``name``; empty without a profile."""
    if name is None:
        return []
    try:
        known = profile(name)
    except ProfileError as error:
        return [str(error)]
    return list(compared(known, fingerprint, capabilities).contradictions)


def warnings(device: str, row: DeviceRow) -> list[str]:
    """The contradictions of an enrolled device as sentences."""
    return [f"Device {device!r} contradicts its profile {row.profile!r}: {contradiction}."
            for contradiction in contradictions(row.profile, row.fingerprint, row.capabilities)]


Say = Callable[[str], None]


def _board(known: DeviceProfile, fingerprint: Mapping[str, object], say: Say) -> DeviceProfile:
    board = fingerprint.get("board")
    if known.boards and isinstance(board, str) and board:
        if not any(fnmatchcase(board.lower(), pattern.lower()) for pattern in known.boards):
            say(f"it reports the board {board[:100]!r}; {known.name} is for "
                f"{' or '.join(known.boards)}")
    return known


def _machine(known: DeviceProfile, fingerprint: Mapping[str, object], say: Say) -> DeviceProfile:
    machine = fingerprint.get("machine")
    if known.machine is None or not isinstance(machine, str) or machine in ("", known.machine):
        return known
    activations = activations_on(machine, known.int8_activations)
    say(f"it reports a {machine[:40]} processor, the profile says {known.machine}" + (
        f"; int8 files get {activations} activations" if activations else ""))
    return replace(known, machine=machine, int8_activations=activations)


def _memory(known: DeviceProfile, fingerprint: Mapping[str, object], say: Say) -> DeviceProfile:
    memory = fingerprint.get("memory_bytes")
    if isinstance(memory, bool) or not isinstance(memory, int) or memory <= 0:
        return known
    sold = known.memory_bytes
    if sold and not any(LEAST_SHARE * size <= memory <= size for size in sold):
        say(f"it reports {memory / 2**30:.1f} GiB of memory, the profile says "
            f"{' or '.join(f'{size / 2**30:g}' for size in sold)} GiB")
    return replace(known, memory_bytes=(memory,))


def _python(known: DeviceProfile, fingerprint: Mapping[str, object], say: Say) -> DeviceProfile:
    version = fingerprint.get("python")
    if known.python is None or not isinstance(version, str) or not version:
        return known
    short = ".".join(version.split(".")[:2])
    if short != known.python:
        say(f"its agent runs on Python {short[:20]}, the profile says {known.python}")
    return replace(known, python=short)


def _runtime(known: DeviceProfile, capabilities: Mapping[str, object], say: Say) -> DeviceProfile:
    """Apply the limits of the reported ONNX Runtime. Where the profile names no version, its limits
    hold for any version, and only an older runtime lowers them."""
    runtimes = capabilities.get("runtimes")
    if not isinstance(runtimes, Mapping) or not runtimes:
        return known
    versions = runtimes.get(known.runtime)
    if not isinstance(versions, Mapping):
        say(f"it offers {', '.join(sorted(map(str, runtimes)))[:100]}, not the profile's runtime "
            f"{known.runtime}")
        return known
    version = versions.get("onnxruntime")
    if not isinstance(version, str):
        return known
    try:
        opset, ir_version = runtime_limits(version)
    except ProfileError as error:
        say(f"{error} The profile's limits are kept.")
        return known
    if known.opset is not None and known.ir_version is not None:
        if known.runtime_version is None:
            opset, ir_version = min(opset, known.opset), min(ir_version, known.ir_version)
        if (opset, ir_version) != (known.opset, known.ir_version):
            expected = known.runtime_version or "a newer one"
            say(f"it reports ONNX Runtime {version}, the profile says {expected}: files for it "
                f"have at most opset {opset} and IR {ir_version}, not {known.opset} and "
                f"{known.ir_version}")
    return replace(known, runtime_version=version, opset=opset, ir_version=ir_version)
