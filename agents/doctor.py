"""What works on this device and what does not, with the command that mends it.

    ok        it works
    lacks     measurements go without it: a meter, a temperature
    MISSING   the agent is of no use without it; the exit code is 1
"""

import argparse
import os
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, TextIO

from agents.capabilities import capabilities
from agents.coordinator.http import Link, LinkError, Refused, Trust, fingerprint_named
from agents.coordinator.spool import check_writable, read_secret
from agents.coordinator.update import user_name
from agents.meters.base import Meter
from agents.meters.catalog import create_meters
from agents.platform.environment import identity, state, throttle_count
from agents.platform.files import SpoolInUse, lock_folder
from agents.platform.own_program import own_archive
from agents.platform.sysfs import Tree
from agents.protocol import DEFAULT_RUNTIME, RUNTIMES

FREE_BYTES = 200 * 1000 * 1000
"""Room for a few models and their results."""
OPEN_FILES = 64
COARSE_CLOCK_S = 1e-5
GOVERNORS = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"
READ = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self/status",
        "/sys/class/thermal/thermal_zone[0-9]*/temp", GOVERNORS,
        "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq",
        "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")


class Finding(NamedTuple):
    """``state`` is ``ok``, ``lacks`` or ``MISSING``; ``mend`` is a command, or empty."""

    name: str
    state: str
    text: str
    mend: str = ""


def report(options: argparse.Namespace, spool: str, out: TextIO) -> int:
    """One line for each finding and one for its mend; 1 when something is missing."""
    findings = examined(options, spool, Tree())
    for one in findings:
        out.write("{:<14} {:<8} {}\n".format(one.name, one.state, one.text))
        if one.mend:
            out.write("{:<14} {:<8} {}\n".format("", "mend:", one.mend))
    return 1 if any(one.state == "MISSING" for one in findings) else 0


def examined(options: argparse.Namespace, spool: str, tree: Tree) -> List[Finding]:
    """Starts each runtime once and writes to ``spool``."""
    who = identity(tree)
    able = capabilities(options.runtime or [DEFAULT_RUNTIME], options.runtime_python)
    found = [
        Finding("device", "ok", "{} {}, {} cores".format(
            who["board"] or who["machine"], who["cpu_model"] or "", who["cores"])),
        Finding("python", "ok", "{}, {}".format(who["python"], sys.executable)),
        *runtimes(able, options.runtime_python),
        spool_folder(spool), enrolment(spool, options.name), limits(), clock(),
        *meter_findings(create_meters().meters), *extension_findings(able),
        governor(tree), temperature(tree), throttling(tree), permissions(tree), updating()]
    if options.coordinator:
        found.append(coordinator(options, spool))
    return found


def runtimes(able: Dict[str, Any], python: str) -> List[Finding]:
    found = [Finding(name, "ok", "{}, {}".format(versions[name], " ".join(versions["providers"])))
             for name, versions in able["runtimes"].items()]
    found += [Finding(provider[:14], "lacks", "{} did not run a file: {}".format(provider, why))
              for versions in able["runtimes"].values()
              for provider, why in versions.get("unproven", {}).items()]
    return found + [Finding(name, "MISSING", problem, installation(name, python))
                    for name, problem in able["missing"].items()]


def installation(runtime: str, python: str) -> str:
    """The command that installs a runtime; empty if no package does."""
    traits = RUNTIMES.get(runtime)
    if traits is None or not traits.pip_package:
        return ""
    return ("{0} -m pip install {1}; where the system forbids that: {0} -m venv ~/fleetfront, "
            "~/fleetfront/bin/pip install {1}, and start the agent with --runtime-python "
            "~/fleetfront/bin/python".format(python, traits.pip_package))


def extension_findings(able: Dict[str, Any]) -> List[Finding]:
    """The entry points of third parties that cannot be used."""
    return [Finding(name, "lacks", problem)
            for name, problem in able.get("extensions", {}).items()]


def meter_findings(meters: Sequence[Meter]) -> List[Finding]:
    """What each can read, or why it cannot."""
    found = []
    for meter in meters:
        problem = meter.problem()
        text = problem or ", ".join(one.name for one in meter.read())
        found.append(Finding(meter.name + " meter", "lacks" if problem else "ok", text,
                             meter.mend() if problem else ""))
    return found


def spool_folder(folder: str) -> Finding:
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock_folder(folder).release()
        check_writable(folder)
    except SpoolInUse:
        return Finding("spool", "ok", "{}, an agent works there now".format(folder))
    except OSError as error:
        return Finding("spool", "MISSING", "nothing can be kept in {}: {}".format(folder, error),
                       "sudo mkdir -p {0} && sudo chown -R {1} {0}, or another folder with --spool"
                       .format(folder, user_name()))
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    text = "{}, {:.1f} GB free".format(folder, free_bytes / 1e9)
    if free_bytes < FREE_BYTES:
        return Finding("spool", "MISSING", text + ", which is too little for models and results",
                       "du -xh {} | sort -h | tail, and remove what is not needed; or another "
                       "folder with --spool".format(folder))
    return Finding("spool", "ok", text)


def enrolment(folder: str, name: str) -> Finding:
    kept = read_secret(folder)
    if kept is None:
        return Finding("enrolment", "lacks", "not enrolled from this folder yet",
                       "fleetfront device enrol {}, on the coordinator; it prints what to run here"
                       .format(name))
    pinned = ", certificate sha256:{}".format(kept.fingerprint) if kept.fingerprint else ""
    return Finding("enrolment", "ok", "as {} at {}{}".format(kept.agent, kept.url, pinned))


def limits() -> Finding:
    """Limits of this login that would end an agent after hours of good work."""
    try:
        import resource
    except ImportError:
        return Finding("limits", "ok", "this system has none")
    seconds = resource.getrlimit(resource.RLIMIT_CPU)[0]
    if seconds != resource.RLIM_INFINITY:
        return Finding("limits", "MISSING", "the system ends the agent after {} s of CPU time"
                       .format(seconds), "ulimit -t unlimited, or the line with `cpu` out of "
                       "/etc/security/limits.conf")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < OPEN_FILES:
        return Finding("limits", "MISSING", "at most {} files may be open".format(files),
                       "ulimit -n 1024")
    return Finding("limits", "ok", "CPU time unlimited, {} open files".format(files))


def clock() -> Finding:
    resolution_s = time.get_clock_info("perf_counter").resolution
    text = "resolution {:g} s".format(resolution_s)
    if resolution_s > COARSE_CLOCK_S:
        return Finding("clock", "lacks", text + ": models faster than {:g} s cannot be told apart"
                       .format(100 * resolution_s),
                       "cat /sys/devices/system/clocksource/clocksource0/available_clocksource, "
                       "and choose a finer one")
    return Finding("clock", "ok", text)


def governor(tree: Tree) -> Finding:
    found = state(tree)["governor"]
    if found is None:
        return Finding("clocks", "lacks", "unknown: no cpufreq here, so clocks cannot be pinned")
    if found != "performance":
        return Finding("clocks", "lacks", "governor {}: the clocks wander".format(found),
                       "echo performance | sudo tee {}".format(GOVERNORS.replace("[0-9]", "")))
    return Finding("clocks", "ok", "governor performance")


def temperature(tree: Tree) -> Finding:
    found = state(tree)["temperatures_c"]
    if not found:
        return Finding("temperature", "lacks", "unknown: no thermal zone here")
    return Finding("temperature", "ok", "{} zones, the warmest at {:.0f} C".format(
        len(found), max(found.values())))


def throttling(tree: Tree) -> Finding:
    count = throttle_count(tree)
    if count is None:
        return Finding("throttling", "lacks",
                       "no counter here: only the reference shows when the device slows down")
    return Finding("throttling", "ok", "{} times since boot".format(count))


def permissions(tree: Tree, readable: Callable[[str], bool] = lambda path: os.access(path, os.R_OK)
                ) -> Finding:
    """Whether what is there may be read, which is not the same as that it is there."""
    shut = [path for pattern in READ for path in tree.paths(pattern)
            if not readable(os.path.join(tree.root, path.lstrip("/")))]
    if shut:
        return Finding("permissions", "lacks", "{} may not read {}".format(
            user_name(), ", ".join(shut[:3]) + (" ..." if len(shut) > 3 else "")),
            "sudo chmod a+r " + " ".join(shut))
    return Finding("permissions", "ok", "{} may read all of /proc and /sys that is needed".format(
        user_name()))


def updating() -> Finding:
    archive = own_archive()
    if archive is None:
        return Finding("updates", "lacks", "started from a folder, so it does not update itself",
                       "start the coordinator's /agent.pyz instead")
    archive = os.path.realpath(archive)
    folder = os.path.dirname(archive)
    if os.access(archive, os.W_OK) and os.access(folder, os.W_OK):
        return Finding("updates", "ok", archive)
    return Finding("updates", "lacks", "{} cannot be replaced when the coordinator is upgraded"
                   .format(archive), "sudo chown {} {} {}".format(user_name(), folder, archive))


def coordinator(options: argparse.Namespace, spool: str) -> Finding:
    """Whether the coordinator answers, under the certificate that the agent would accept."""
    kept = read_secret(spool)
    url = options.coordinator.rstrip("/")
    try:
        pin = fingerprint_named(options.fingerprint) if options.fingerprint else None
        if pin is None and kept is not None and kept.url == url:
            pin = kept.fingerprint or None
        link = Link(url, None, Trust(options.cafile, pin))
    except ValueError as error:
        return Finding("coordinator", "MISSING", str(error))
    try:
        link.request("GET", "/healthz")
    except Refused:
        pass  # an answer all the same
    except LinkError as error:
        return Finding("coordinator", "MISSING", "{}: {}".format(url, error),
                       "start `fleetfront serve` there, and see that no firewall is between: "
                       "curl -kv {}/healthz".format(url))
    finally:
        link.close()
    return Finding("coordinator", "ok", "{} answers".format(url))
