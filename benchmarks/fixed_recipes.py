"""Twenty fixed recipes give files of the same sha256 in two installations.

    python -m benchmarks.fixed_recipes --other /path/of/another/.venv/bin/fleetfront [--dir DIR]

Every row is a ``fleetfront build`` of a recipe file, once by this installation and once by the
other. Before a change that must not change files: install the version before it elsewhere. Both
need the same packages and the same machine. Exit code 1 when files differ.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.checks import Check, conclude, holds
from benchmarks.commands import FLEETFRONT

TASK = "lenet5-mnist"
Step = Mapping[str, object]


def step(strategy: str, layers: str = "model", **parameters: object) -> Step:
    return {"strategy": strategy, "layers": layers, **parameters}


CONVOLUTIONS, FULLY_CONNECTED = "convolutions", "fully_connected"
FINETUNE = step("finetune", learning_rate=0.005)
DISTILL = step("knowledge_distillation", learning_rate=0.005)
INT8 = step("int8")

RECIPES: Mapping[str, Sequence[Step]] = {
    "baseline": [],
    "int8": [INT8],
    "channels": [step("channel_pruning", keep_ratio=0.5)],
    "channels of convolutions": [step("channel_pruning", CONVOLUTIONS, keep_ratio=0.6, round_to=1)],
    "channels, int8": [step("channel_pruning", keep_ratio=0.4), INT8],
    "channels, fine-tuned": [step("channel_pruning", keep_ratio=0.3), FINETUNE],
    "channels, distilled": [step("channel_pruning", keep_ratio=0.3), DISTILL],
    "channels, fine-tuned, int8": [step("channel_pruning", keep_ratio=0.25), FINETUNE, INT8],
    "tucker": [step("tucker", CONVOLUTIONS, rank_ratio=0.5)],
    "tucker, fine-tuned": [step("tucker", CONVOLUTIONS, rank_ratio=0.4), FINETUNE],
    "svd": [step("svd", FULLY_CONNECTED, rank_ratio=0.25)],
    "svd, int8": [step("svd", FULLY_CONNECTED, rank_ratio=0.2), INT8],
    "tucker, svd, distilled": [step("tucker", CONVOLUTIONS, rank_ratio=0.5),
                               step("svd", FULLY_CONNECTED, rank_ratio=0.25), DISTILL],
    "magnitude": [step("magnitude_pruning", keep_ratio=0.2)],
    "magnitude, fine-tuned": [step("magnitude_pruning", keep_ratio=0.1), FINETUNE],
    "magnitude, int8": [step("magnitude_pruning", FULLY_CONNECTED, keep_ratio=0.1), INT8],
    "clustering": [step("clustering", bits=4)],
    "clustering, distilled": [step("clustering", FULLY_CONNECTED, bits=3), DISTILL],
    "channels, clustering, fine-tuned": [step("channel_pruning", keep_ratio=0.5),
                                         step("clustering", bits=4), FINETUNE],
    "four stages": [step("channel_pruning", keep_ratio=0.5),
                    step("magnitude_pruning", FULLY_CONNECTED, keep_ratio=0.2), FINETUNE, INT8],
}


def toml_of(steps: Sequence[Step]) -> str:
    return "".join("[[step]]\n" + "".join(f"{key} = {json.dumps(value)}\n"
                                          for key, value in one.items()) for one in steps)


def built(fleetfront: Path, recipe: Path, folder: Path, output: Path) -> str:
    """The sha256 of the model that ``fleetfront build`` writes. Raises SystemExit."""
    done = subprocess.run(
        [fleetfront, "build", recipe, "--task", TASK, "--fidelity", "short", "--dir", folder,
         "-o", output], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{fleetfront} build {recipe.read_text()}: {done.stderr[-2000:]}")
    return hashlib.sha256((output / "model.onnx").read_bytes()).hexdigest()


def compare(other: Path, folder: Path) -> list[Check]:
    checks = []
    for number, (name, steps) in enumerate(RECIPES.items()):
        recipe = folder / f"{number}.toml"
        recipe.write_text(toml_of(steps))
        here, there = (
            built(program, recipe, folder / place, folder / f"{place}-{number}")
            for place, program in (("here", FLEETFRONT), ("there", other)))
        print(f"{name:34} {here[:16]} {there[:16]}", flush=True)
        checks.append(holds(name, here == there, here[:16], there[:16]))
    return checks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, metavar="FLEETFRONT")
    parser.add_argument("--dir", type=Path, help="A new or empty folder; it is kept.")
    options = parser.parse_args()
    if options.dir is not None:
        options.dir.mkdir(parents=True, exist_ok=True)
        return conclude(compare(options.other, options.dir))
    with tempfile.TemporaryDirectory() as folder:
        return conclude(compare(options.other, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
