"""Precision and error rates of measurements. Each part prints a table and checks its bounds.

    python -m benchmarks.measurement [--only loop ratio gates disturb hour energy] [--trials 100]
                                     [--minutes 60]
"""

import argparse
import sys
from importlib import import_module

PARTS = ("loop", "ratio", "gates", "disturb", "hour", "energy")
"""Modules of this package; ``run(arguments)`` prints and returns whether all bounds are met."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--trials", type=int, default=100, help="trials of each part except hour")
    parser.add_argument("--minutes", type=float, default=60.0, help="duration of hour")
    parser.add_argument("--rounds", type=int, default=10, help="measurements of each model in hour")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    met = {part: import_module(f"benchmarks.measurement.{part}").run(arguments)
           for part in arguments.only}
    print(", ".join(f"{part}: {'met' if ok else 'NOT MET'}" for part, ok in met.items()))
    sys.exit(not all(met.values()))


if __name__ == "__main__":
    main()
