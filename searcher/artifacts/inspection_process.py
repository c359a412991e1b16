"""The facts of a model file of unknown origin: ``python -m searcher.artifacts.inspection_process
FILE --format NAME``.

Runs in a bounded child of a builder only (searcher/artifacts/inspection.py) and prints one JSON
object."""

import argparse
import dataclasses
import json
import resource
import sys
from pathlib import Path

from searcher.artifacts.formats import registry
from searcher.artifacts.formats.base import Refused
from searcher.artifacts.inspection import refusal
from searcher.workers.parent_death import die_with_parent

MOST_ANSWER_BYTES = 16 * 2**20


def _bound(memory_bytes: int, cpu_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_ANSWER_BYTES, MOST_ANSWER_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    mapped = Path("/proc/self/statm")
    if mapped.exists():  # elsewhere the kernel does not keep to the limit anyway
        used = int(mapped.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--format", default=registry.DEFAULT)
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--cpu-s", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    options = parser.parse_args()
    die_with_parent(options.parent_pid)
    # Loaded before memory is bounded: libraries take some, whatever the file.
    file_format = registry.named(options.format)
    _bound(options.memory_bytes, options.cpu_s)
    try:
        facts = file_format.inspect(options.file.read_bytes())
        found = {"accepted": True, **dataclasses.asdict(facts)}
    except Refused as error:
        found = refusal(error.reason, str(error))
    except MemoryError:
        found = refusal("memory", "Reading it and one run took more memory than a file of its "
                                  "size may need.")
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
