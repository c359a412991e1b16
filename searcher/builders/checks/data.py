"""Rows about the data: inputs, values that are no numbers, overlap of splits, reading."""

from collections.abc import Mapping

from searcher.builders.checks.look import InputLook, Look
from searcher.builders.checks.rows import Table
from searcher.tasks.base import SampleBatch, Samples

OVERLAP_SHARE = 0.01
"""Share of a split that may occur in another split; more is an error."""
FEW_SAMPLES = 100
"""A split of fewer samples cannot tell small losses of quality from chance."""
SHIFT = 1.0
"""Difference of the means of two splits, in standard deviations, that no random split has."""
STRETCH = 2.0
"""Ratio of the deviations of two splits that no random split has."""
LARGE = 20.0
"""Whole numbers up to more than this are raw pixels or codes, not scaled values."""


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
    training = by_split.get("training", first)
    for split, values in by_split.items():
        least, most = sorted((training.deviation, values.deviation))
        if abs(values.mean - training.mean) > SHIFT * most or most > STRETCH * least:
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
    """Rows of samples that are others when they are read again."""
    for split in looks:
        habits = samples[split].habits
        if not habits.repeats:
            table.warn(f"{split} samples", "They differ each time they are read, also under the "
                       "same random numbers of torch, numpy and random.",
                       "Draw random numbers from these, or seed your own generator by the sample's "
                       "number: builds can be repeated then.")
        elif habits.augments and split == "training":
            table.note("training samples", "augmented by the dataset: its overlap with other "
                       "splits cannot be seen")
        elif habits.augments:
            table.warn(f"{split} samples", "They are augmented at random.",
                       f"Give the {split} split a dataset without augmentation: quality is "
                       "judged on it.")


def first(batch: SampleBatch, count: int) -> SampleBatch:
    """The first ``count`` samples of a batch, without targets."""
    return SampleBatch(tuple(values[:count] for values in batch.inputs), (), batch.start)
