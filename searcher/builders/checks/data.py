"""Rows about the data: inputs, values that are no numbers, overlap of splits, reading."""

import time
from collections.abc import Mapping

import torch

from searcher.builders.checks.look import (
    InputLook,
    Look,
    TargetLook,
    digests,
    spread,
    tensors_of,
    type_text,
)
from searcher.builders.checks.rows import Table
from searcher.tasks.data.samples import Samples

OVERLAP_SHARE = 0.01
"""Share of a split that may occur in another split; more is an error."""
FEW_SAMPLES = 100
"""A split of fewer samples cannot tell small losses of quality from chance."""
SHIFT = 1.0
"""Difference of the means of two splits, in standard deviations, that no random split has."""
LARGE = 20.0
"""Whole numbers up to more than this are raw pixels or codes, not scaled values."""


def look(samples: Samples, split: str, seconds: float) -> Look:
    """Look at all samples of a split, or, when that takes longer than ``seconds``, at an evenly
    spread part. Raises TaskError for what the user's dataset raises."""
    found = Look(split, len(samples))
    began_s = time.perf_counter()
    for numbers in spread(len(samples)):
        _add(found, samples, numbers)
        found.seconds = time.perf_counter() - began_s
        if found.seconds > seconds:
            break
    return found


def _add(found: Look, samples: Samples, numbers: list[int]) -> None:
    batch = samples.at(numbers)
    for name, values in zip(samples.input_names, batch.inputs, strict=True):
        if name not in found.inputs:
            found.inputs[name] = InputLook(name, type_text(values), tuple(values.shape[1:]))
        found.inputs[name].add(values, numbers)
    for key, values in tensors_of(batch.targets).items():
        if key not in found.targets:
            found.targets[key] = TargetLook(type_text(values), tuple(values.shape[1:]))
        found.targets[key].add(values, numbers)
    for number, digest in zip(numbers, digests(batch.inputs), strict=True):
        if digest in found.samples:
            found.repeated.append(number)
        else:
            found.samples[digest] = number
    found.seen += len(numbers)


def check_inputs(table: Table, looks: Mapping[str, Look]) -> None:
    """Rows of names, types, shapes and values of the inputs."""
    for name in next(iter(looks.values())).inputs:
        _input(table, name, {split: look.inputs[name] for split, look in looks.items()})
    for split, look in looks.items():
        for name, values in look.inputs.items():
            if values.bad:
                table.fail(f"{split} input {name}", f"{len(values.bad):,} of {look.coverage} "
                           "samples hold NaN or infinity; the first is sample "
                           f"{min(values.bad)}. Finite numbers are expected.",
                           "Remove these samples, or replace the values, such as by "
                           "torch.nan_to_num.")
    if not any(values.bad for look in looks.values() for values in look.inputs.values()):
        seen = "; ".join(f"{split}: {look.coverage}" for split, look in looks.items())
        table.ok("samples", f"one shape and finite numbers ({seen})")


def _input(table: Table, name: str, by_split: Mapping[str, InputLook]) -> None:
    shapes = {split: (values.type, values.shape) for split, values in by_split.items()}
    if len(set(shapes.values())) > 1:
        said = "; ".join(f"{split} {kind} {shape}" for split, (kind, shape) in shapes.items())
        table.fail(f"input {name}", f"The splits differ: {said}.",
                   "Prepare the samples of all splits in the same way.")
        return
    first = next(iter(by_split.values()))
    low, high = (choose(v) for choose, v in (
        (min, [values.low for values in by_split.values()]),
        (max, [values.high for values in by_split.values()])))
    table.ok(f"input {name}", f"{first.type} {first.shape}, {low:.4g} to {high:.4g}, mean "
             f"{first.mean:.4g}, standard deviation {first.deviation:.4g}")
    if first.shape and len(first.shape) == 3 and first.whole and high > LARGE:
        table.warn(f"input {name}", f"Pictures hold whole numbers up to {high:g}.",
                   "If the model was trained with scaled values, scale them, such as by 1/255.")
    if low == high:
        table.fail(f"input {name}", f"Every value is {low:g}.",
                   "The samples do not differ. Correct how they are read.")
    training = by_split.get("training")
    for split, values in by_split.items() if training is not None else ():
        spread_s = max(training.deviation, values.deviation)
        if abs(values.mean - training.mean) > SHIFT * spread_s > 0:
            table.warn(f"{split} input {name}", f"Its mean is {values.mean:.4g} with deviation "
                       f"{values.deviation:.4g}; in training they are {training.mean:.4g} and "
                       f"{training.deviation:.4g}.",
                       "Prepare both splits in the same way (scaling, mean and deviation).")


def check_overlap(table: Table, looks: Mapping[str, Look]) -> None:
    """Rows of samples whose inputs occur in two splits, or twice in one."""
    names = list(looks)
    clean = True
    for index, split in enumerate(names):
        for other in names[index + 1:]:
            clean = _overlap(table, looks[split], looks[other]) and clean
    if clean and len(names) > 1:
        seen = "; ".join(f"{split}: {look.coverage}" for split, look in looks.items())
        table.ok("overlap", f"no sample is in two splits ({seen})")
    for split, look in looks.items():
        if look.repeated:
            table.note(f"{split} duplicates", f"{len(look.repeated):,} of {look.coverage} samples "
                       f"repeat an earlier one; the first is sample {min(look.repeated)}")


def _overlap(table: Table, first: Look, second: Look) -> bool:
    """Whether no sample is in both, with a row if not."""
    shared = [(first.samples[digest], number) for digest, number in second.samples.items()
              if digest in first.samples]
    if not shared:
        return True
    share = len(shared) / min(len(first.samples), len(second.samples))
    own, other = min(shared, key=lambda pair: pair[1])
    said = (f"{len(shared):,} samples of {second.split} are in {first.split} too ({share:.1%} of "
            f"the smaller split); the first is {second.split} sample {other} = {first.split} "
            f"sample {own}.")
    remedy = "Split the data so that no sample is in two splits."
    if share > OVERLAP_SHARE:
        table.fail("overlap", said, f"The quality would be too high. {remedy}")
    else:
        table.warn("overlap", said, remedy)
    return False


def check_repeatable(table: Table, looks: Mapping[str, Look], samples: Mapping[str, Samples]
                     ) -> None:
    """A row where a sample of the splits that are judged differs when it is read again."""
    for split in ("validation", "test"):
        if split not in looks or not len(samples[split]):
            continue
        number = next(iter(looks[split].samples.values()))
        twice = [samples[split].at([number]) for _ in range(2)]
        if any(not torch.equal(a, b) for a, b in zip(twice[0].inputs, twice[1].inputs, strict=True)):
            table.warn(f"{split} samples", f"Sample {number} differs each time it is read.",
                       f"Give the {split} split a dataset without random augmentation.")


def check_speed(table: Table, looks: Mapping[str, Look], workers: int) -> None:
    """A row of how fast samples are read by one process."""
    rates = {split: look.seen / max(look.seconds, 1e-9) for split, look in looks.items()}
    said = ", ".join(f"{split} {rate:,.0f} per second" for split, rate in rates.items())
    table.ok("reading", f"{said}, in one process" + (
        f"; training reads with {workers} more" if workers else ""))
