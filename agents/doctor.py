"""Diagnoses this device: what works, what does not, and the command that repairs it.

    ok        it works
    lacks     measurements do without it, such as a meter or a temperature
    MISSING   the agent cannot work without it; the exit code is 1
"""

import argparse
import os
import sys
import time
from typing import Callable, List, NamedTuple, Sequence, TextIO

from agents.capabilities import Capabilities, capabilities
from agents.coordinator.http import (
    CoordinatorUnavailable,
    HttpClient,
    RequestRefused,
    Trust,
    parse_fingerprint,
)
from agents.coordinator.spool import check_writable, read_secret
from agents.coordinator.update import user_name
from agents.meters.base import Meter
from agents.meters.catalog import create_meters
from agents.platform.environment import machine_identity, machine_state, throttle_count
from agents.platform.files import SpoolInUse, lock_folder
from agents.platform.own_program import own_archive
from agents.platform.sysfs import SystemTree
from agents.protocol import DEFAULT_RUNTIME, RUNTIMES

FREE_BYTES = 200 * 1000 * 1000
"""Least free space, for a few models and their results."""
OPEN_FILES = 64
COARSE_CLOCK_S = 1e-5
GOVERNORS = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"
READ = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self/status",
        "/sys/class/thermal/thermal_zone[0-9]*/temp", GOVERNORS,
        "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq",
        "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")


class Diagnosis(NamedTuple):
    """``state`` is ``ok``, ``lacks`` or ``MISSING``; ``remedy`` is a command, or empty."""

    name: str
    state: str
    text: str
    remedy: str = ""


def report(options: argparse.Namespace, spool: str, out: TextIO) -> int:
    """Prints one line per diagnosis and one per remedy. Returns 1 if something is missing."""
    findings = diagnose(options, spool, SystemTree())
    for one in findings:
        out.write("{:<14} {:<8} {}\n".format(one.name, one.state, one.text))
        if one.remedy:
            out.write("{:<14} {:<8} {}\n".format("", "remedy:", one.remedy))
    return 1 if any(one.state == "MISSING" for one in findings) else 0


def diagnose(options: argparse.Namespace, spool: str, tree: SystemTree) -> List[Diagnosis]:
    """All diagnoses. Starts each runtime, and writes to ``spool``."""
    identity = machine_identity(tree)
    able = capabilities(options.runtime or [DEFAULT_RUNTIME], options.runtime_python)
    found = [
        Diagnosis("device", "ok", "{} {}, {} cores".format(
            identity.board or identity.machine, identity.cpu_model or "", identity.cores)),
        Diagnosis("python", "ok", "{}, {}".format(identity.python, sys.executable)),
        *runtimes(able, options.runtime_python),
        spool_folder(spool), enrolment(spool, options.name), limits(), clock(),
        *meter_findings(create_meters().meters), *extension_findings(able),
        governor(tree), temperature(tree), throttling(tree), permissions(tree), updating()]
    if options.coordinator:
        found.append(coordinator(options, spool))
    return found


def runtimes(able: Capabilities, python: str) -> List[Diagnosis]:
    found = [Diagnosis(name, "ok", "{}, {}".format(start.versions[name], " ".join(start.providers)))
             for name, start in able.runtimes.items()]
    found += [Diagnosis(provider[:14], "lacks", "{} did not run a file: {}".format(provider, why))
              for start in able.runtimes.values()
              for provider, why in start.unproven.items()]
    return found + [Diagnosis(name, "MISSING", problem, installation(name, python))
                    for name, problem in able.missing.items()]


def installation(runtime: str, python: str) -> str:
    """The command that installs a runtime; empty if no package does."""
    traits = RUNTIMES.get(runtime)
    if traits is None or not traits.pip_package:
        return ""
    return ("{0} -m pip install {1}; where the system forbids that: {0} -m venv ~/fleetfront, "
            "~/fleetfront/bin/pip install {1}, and start the agent with --runtime-python "
            "~/fleetfront/bin/python".format(python, traits.pip_package))


def extension_findings(able: Capabilities) -> List[Diagnosis]:
    """The entry points of third parties that cannot be used."""
    return [Diagnosis(name, "lacks", problem)
            for name, problem in able.extensions.items()]


def meter_findings(meters: Sequence[Meter]) -> List[Diagnosis]:
    """What each meter can read, or why it cannot."""
    found = []
    for meter in meters:
        problem = meter.problem()
        text = problem or ", ".join(one.name for one in meter.read())
        found.append(Diagnosis(meter.name + " meter", "lacks" if problem else "ok", text,
                             meter.remedy() if problem else ""))
    return found


def spool_folder(folder: str) -> Diagnosis:
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock_folder(folder).release()
        check_writable(folder)
    except SpoolInUse:
        return Diagnosis("spool", "ok", "{}, in use by an agent".format(folder))
    except OSError as error:
        return Diagnosis("spool", "MISSING", "{} cannot be written: {}".format(folder, error),
                       "sudo mkdir -p {0} && sudo chown -R {1} {0}, or another folder with --spool"
                       .format(folder, user_name()))
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    text = "{}, {:.1f} GB free".format(folder, free_bytes / 1e9)
    if free_bytes < FREE_BYTES:
        return Diagnosis("spool", "MISSING", text + ", too little for models and results",
                       "du -xh {} | sort -h | tail, and remove what is not needed; or another "
                       "folder with --spool".format(folder))
    return Diagnosis("spool", "ok", text)


def enrolment(folder: str, name: str) -> Diagnosis:
    kept = read_secret(folder)
    if kept is None:
        return Diagnosis("enrolment", "lacks", "not enrolled from this folder",
                       "fleetfront device enrol {}, on the coordinator; it prints the command "
                       "to run here"
                       .format(name))
    pinned = ", certificate sha256:{}".format(kept.fingerprint) if kept.fingerprint else ""
    return Diagnosis("enrolment", "ok", "as {} at {}{}".format(kept.agent, kept.url, pinned))


def limits() -> Diagnosis:
    """Resource limits of this login that would end an agent after hours."""
    try:
        import resource
    except ImportError:
        return Diagnosis("limits", "ok", "this system has none")
    seconds = resource.getrlimit(resource.RLIMIT_CPU)[0]
    if seconds != resource.RLIM_INFINITY:
        return Diagnosis("limits", "MISSING", "the system ends the agent after {} s of CPU time"
                       .format(seconds), "ulimit -t unlimited, or the line with `cpu` out of "
                       "/etc/security/limits.conf")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < OPEN_FILES:
        return Diagnosis("limits", "MISSING", "at most {} files may be open".format(files),
                       "ulimit -n 1024")
    return Diagnosis("limits", "ok", "CPU time unlimited, {} open files".format(files))


def clock() -> Diagnosis:
    resolution_s = time.get_clock_info("perf_counter").resolution
    text = "resolution {:g} s".format(resolution_s)
    if resolution_s > COARSE_CLOCK_S:
        return Diagnosis("clock", "lacks",
                         "{}: models faster than {:g} s cannot be distinguished".format(
                             text, 100 * resolution_s),
                       "cat /sys/devices/system/clocksource/clocksource0/available_clocksource, "
                       "and choose a finer one")
    return Diagnosis("clock", "ok", text)


def governor(tree: SystemTree) -> Diagnosis:
    found = machine_state(tree).governor
    if found is None:
        return Diagnosis("clocks", "lacks", "unknown: without cpufreq clocks cannot be pinned")
    if found != "performance":
        return Diagnosis("clocks", "lacks", "governor {}: the clocks vary".format(found),
                       "echo performance | sudo tee {}".format(GOVERNORS.replace("[0-9]", "")))
    return Diagnosis("clocks", "ok", "governor performance")


def temperature(tree: SystemTree) -> Diagnosis:
    found = machine_state(tree).temperatures_c
    if not found:
        return Diagnosis("temperature", "lacks", "unknown: no thermal zone")
    return Diagnosis("temperature", "ok", "{} zones, the warmest at {:.0f} C".format(
        len(found), max(found.values())))


def throttling(tree: SystemTree) -> Diagnosis:
    count = throttle_count(tree)
    if count is None:
        return Diagnosis("throttling", "lacks",
                       "no counter: only the reference's time shows that the device slows down")
    return Diagnosis("throttling", "ok", "{} times since boot".format(count))


def permissions(tree: SystemTree,
                readable: Callable[[str], bool] = lambda path: os.access(path, os.R_OK)
                ) -> Diagnosis:
    """Whether the existing files of /proc and /sys can be read."""
    shut = [path for pattern in READ for path in tree.paths(pattern)
            if not readable(os.path.join(tree.root, path.lstrip("/")))]
    if shut:
        return Diagnosis("permissions", "lacks", "{} cannot read {}".format(
            user_name(), ", ".join(shut[:3]) + (" ..." if len(shut) > 3 else "")),
            "sudo chmod a+r " + " ".join(shut))
    return Diagnosis("permissions", "ok", "{} can read all required files of /proc and /sys".format(
        user_name()))


def updating() -> Diagnosis:
    archive = own_archive()
    if archive is None:
        return Diagnosis("updates", "lacks", "started from a folder, so it does not update itself",
                       "start the coordinator's /agent.pyz instead")
    archive = os.path.realpath(archive)
    folder = os.path.dirname(archive)
    if os.access(archive, os.W_OK) and os.access(folder, os.W_OK):
        return Diagnosis("updates", "ok", archive)
    return Diagnosis("updates", "lacks", "{} cannot be replaced when the coordinator is upgraded"
                   .format(archive), "sudo chown {} {} {}".format(user_name(), folder, archive))


def coordinator(options: argparse.Namespace, spool: str) -> Diagnosis:
    """Whether the coordinator answers with a certificate that the agent accepts."""
    kept = read_secret(spool)
    url = options.coordinator.rstrip("/")
    try:
        pin = parse_fingerprint(options.fingerprint) if options.fingerprint else None
        if pin is None and kept is not None and kept.url == url:
            pin = kept.fingerprint or None
        client = HttpClient(url, None, Trust(options.cafile, pin))
    except ValueError as error:
        return Diagnosis("coordinator", "MISSING", str(error))
    try:
        client.request("GET", "/healthz")
    except RequestRefused:
        pass  # also an answer
    except CoordinatorUnavailable as error:
        return Diagnosis("coordinator", "MISSING", "{}: {}".format(url, error),
                       "start `fleetfront serve` there, and check that no firewall blocks it: "
                       "curl -kv {}/healthz".format(url))
    finally:
        client.close()
    return Diagnosis("coordinator", "ok", "{} answers".format(url))
