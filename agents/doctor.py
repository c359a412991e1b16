"""What works on this device and what does not, with the mend."""

from typing import Any, Dict, List, TextIO

from agents.children import ProcessChild, StartChild
from agents.environment import identity, state
from agents.jobs import KINDS
from agents.meters import METERS
from agents.runner import LISTEN_S, START_LIMIT_S
from agents.sysfs import Tree


def runtime_versions(runtime: str, start_child: StartChild) -> Dict[str, Any]:
    """What the runtime says of itself in the child's interpreter; ``{"problem": text}`` if none."""
    child = start_child(runtime, {"mode": "versions"})
    try:
        for _ in range(int(START_LIMIT_S / LISTEN_S)):
            event = child.next_event(LISTEN_S)
            if event is not None and event["event"] == "ready":
                return dict(event["versions"])
            if event is not None:
                return {"problem": str(event.get("reason", event["event"]))}
            ended = child.ended()
            if ended is not None:
                return {"problem": "{} {}".format(ended, child.last_words()).strip()}
        return {"problem": "it does not start within {:g} s".format(START_LIMIT_S)}
    finally:
        child.close()


def capabilities(runtimes: List[str], python: str) -> Dict[str, Any]:
    """What the agent tells when it enrols: job kinds, runtimes that start, meters that read."""
    def start(runtime: str, request: Dict[str, Any]) -> ProcessChild:
        return ProcessChild(runtime, request, python)

    found = {name: runtime_versions(name, start) for name in runtimes}
    return {
        "kinds": list(KINDS),
        "runtimes": {name: versions for name, versions in found.items()
                     if "problem" not in versions},
        "missing": {name: versions["problem"] for name, versions in found.items()
                    if "problem" in versions},
        "meters": {meter.name: meter().problem() or "ok" for meter in METERS},
    }


def report(python: str, out: TextIO) -> int:
    """One line each; 1 when there is no real runtime to measure with."""
    tree = Tree()
    who, now = identity(tree), state(tree)
    able = capabilities(["onnxruntime"], python)
    lines = [
        ("device", "{} {}, {} cores".format(
            who["board"] or who["machine"], who["cpu_model"] or "", who["cores"])),
        ("python", who["python"]),
        *((name, "{}, {}".format(versions[name], " ".join(versions["providers"])))
          for name, versions in able["runtimes"].items()),
        *((name, "MISSING: " + problem) for name, problem in able["missing"].items()),
        *((name + " meter", answer) for name, answer in able["meters"].items()),
        ("clocks", now["governor"] or "unknown: no cpufreq here, so clocks cannot be pinned"),
        ("temperature", "{} zones".format(len(now["temperatures_c"])) if now["temperatures_c"]
         else "unknown: no thermal zone here"),
    ]
    for name, text in lines:
        out.write("{:<14} {}\n".format(name, text))
    return 1 if able["missing"] else 0
