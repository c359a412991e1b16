"""Rows about targets: types, ranges against the model's outputs, and classes."""

from collections.abc import Mapping

from searcher.builders.checks.look import Look, TargetLook
from searcher.builders.checks.rows import Table
from searcher.tasks.metrics.accuracy import Accuracy
from searcher.tasks.metrics.base import Metric

UNLABELLED = (-100, -1, 255)
"""Values that mark samples or pixels without a label in common data sets."""
RARE_SHARE = 0.1
"""A class with fewer samples than this share of the most frequent one is rare."""
FEWEST_SAMPLES = 5
"""Validation samples of a class, below which its quality cannot be seen."""
MOST_NAMED = 8

Targets = Mapping[str, TargetLook]
"""The judged target by split."""


def check_targets(table: Table, looks: Mapping[str, Look], key: str, metric: Metric,
                  width: int | None, by_recipe: bool) -> None:
    """Rows of the targets that ``metric`` compares with a model of ``width`` classes (None: the
    outputs have no axis of classes). ``by_recipe``: the baseline learns from the training
    split."""
    found = {split: look.targets[key] for split, look in looks.items() if key in look.targets}
    _types(table, looks, found)
    first = next(iter(found.values()), None)
    if first is None or metric.against != "targets" or metric.answer == "values":
        return
    if _no_class_numbers(table, found, metric):
        return
    inside = (_labels_of_one_logit(table, looks, found) if metric.answer == "logit"
              else _labels_of_classes(table, looks, found, width, metric))
    if inside:
        _classes(table, looks, found, width if metric.answer == "classes" else 2, metric,
                 by_recipe)


def _types(table: Table, looks: Mapping[str, Look], found: Targets) -> None:
    kinds: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    for split, look in looks.items():
        for key, target in look.targets.items():
            name = f"targets {key}".strip()
            kinds.setdefault((name, target.type, target.shape), []).append(split)
            if target.bad:
                table.fail(f"{split} {name}", f"{len(target.bad):,} samples have NaN or infinite "
                           f"targets, the first is sample {min(target.bad)}.",
                           "Remove these samples or correct their targets.")
    if len({name for name, _, _ in kinds}) < len(kinds):
        said = "; ".join(f"{', '.join(splits)}: {type} {shape}"
                         for (_, type, shape), splits in kinds.items())
        table.fail("targets", f"The splits differ: {said}.",
                   "Give the targets of all splits in one type and shape.")
        return
    for (name, type, shape), splits in kinds.items():
        lows = [looks[split].targets[name.removeprefix("targets").strip()] for split in splits]
        low, high = min(t.low for t in lows), max(t.high for t in lows)
        table.ok(name, f"{type}, {shape or 'one number'} per sample, {low:g} to {high:g}")


def _no_class_numbers(table: Table, found: Targets, metric: Metric) -> bool:
    """Whether the targets are no class numbers, with a row."""
    first = next(iter(found.values()))
    if metric.answer == "classes" and all(t.one_hot for t in found.values()):
        table.fail("targets", f"They are one-hot: {first.type} {first.shape} per sample. The "
                   f"metric {metric.text!r} expects class numbers (one whole number per sample).",
                   "Give targets.argmax(1).")
    elif metric.answer == "classes" and first.shape == (1,):
        table.fail("targets", "They have the shape (n, 1). Class numbers of shape (n,) are "
                   "expected.", "Give targets[:, 0].")
    elif not all(t.whole for t in found.values()):
        table.fail("targets", f"They are numbers from {first.low:g} to {first.high:g}, not class "
                   f"numbers, which the metric {metric.text!r} expects.",
                   'Give class numbers, or a metric of values, such as '
                   'metric="torchmetrics.MeanAbsoluteError".')
    elif metric.answer == "classes" and first.type.startswith(("float", "bfloat")):
        table.fail("targets", f"They are whole numbers of type {first.type}. Class numbers are "
                   "expected as int64.", "Give targets.long().")
    else:
        return False
    return True


def _labels_of_classes(table: Table, looks: Mapping[str, Look], found: Targets,
                       width: int | None, metric: Metric) -> bool:
    """Whether all labels name an output, with rows for the others."""
    if width is None:
        return True
    ignored = getattr(metric, "ignore_index", None)
    outside = {split: sorted(v for v in target.counts
                             if not 0 <= v < width and v not in (ignored, -100))
               for split, target in found.items()}
    bad = {split: values for split, values in outside.items() if values}
    for split, values in bad.items():
        target = found[split]
        shown = ", ".join(map(str, values[:MOST_NAMED])) + (", ..." if len(values) > MOST_NAMED
                                                            else "")
        table.fail(f"{split} labels", f"The labels {shown} name no output: the model has {width} "
                   f"outputs, therefore 0 to {width - 1} are expected. The first is label "
                   f"{values[0]} of sample {target.first[values[0]]}.",
                   _remedy(found, values, width, metric))
    return not bad


def _remedy(found: Targets, values: list[int], width: int, metric: Metric) -> str:
    low = min(min(target.counts) for target in found.values())
    high = max(max(target.counts) for target in found.values())
    if (low, high) == (1, width):
        return "The labels begin with 1: give targets - 1."
    if len(values) == 1 and values[0] in UNLABELLED:
        return (f"If {values[0]} marks what has no label, leave these samples out; for pixels give "
                f'metric="mean_iou(ignore_index={values[0]})" and a loss with the same '
                "ignore_index.")
    if high >= width:
        return f"Give the model {high + 1} outputs, or map the labels to 0 to {width - 1}."
    return f"Map the labels to 0 to {width - 1}."


def _labels_of_one_logit(table: Table, looks: Mapping[str, Look], found: Targets) -> bool:
    values = sorted({value for target in found.values() for value in target.counts})
    if set(values) <= {0, 1}:
        return True
    split = next(s for s, t in found.items() if not set(t.counts) <= {0, 1})
    wrong = next(v for v in values if v not in (0, 1) and v in found[split].counts)
    advice = {(-1, 1): "Give (targets + 1) / 2.", (1, 2): "Give targets - 1."}.get(
        (values[0], values[-1]) if len(values) == 2 else (0, 0),
        "A model with more than two classes needs one output for each class.")
    table.fail(f"{split} labels", f"One logit answers the labels 0 and 1. Found "
               f"{', '.join(map(str, values[:MOST_NAMED]))}; the first {wrong} is sample "
               f"{found[split].first[wrong]}.", advice)
    return False


def _classes(table: Table, looks: Mapping[str, Look], found: Targets, width: int | None,
             metric: Metric, by_recipe: bool) -> None:
    ignored = {getattr(metric, "ignore_index", None), -100}
    counts = {split: {value: count for value, count in sorted(target.counts.items())
                      if value not in ignored} for split, target in found.items()}
    for split, by_class in counts.items():
        if len(by_class) == 1:
            label = next(iter(by_class))
            table.fail(f"{split} classes", f"The samples have one label, {label}; "
                       f"{looks[split].coverage} were looked at. At least two classes are "
                       "expected.",
                       f"Give the {split} split samples of every class; are the data sorted by "
                       "class where they were split?")
    if any(len(by_class) == 1 for by_class in counts.values()):
        return
    table.ok("classes", "; ".join(f"{split}: {_counts_text(c)}" for split, c in counts.items()))
    _missing(table, looks, counts, width, by_recipe)
    _rare(table, counts, metric)


def _counts_text(counts: Mapping[int, int]) -> str:
    if len(counts) > MOST_NAMED:
        return f"{len(counts)} classes of {min(counts.values()):,} to {max(counts.values()):,}"
    return ", ".join(f"{count:,} of {label}" for label, count in counts.items())


def _missing(table: Table, looks: Mapping[str, Look], counts: Mapping[str, Mapping[int, int]],
             width: int | None, by_recipe: bool) -> None:
    training = looks.get("training")
    known = counts.get("training", {})
    for split, by_class in counts.items():
        absent = [label for label in by_class if label not in known]
        if absent and training is not None and training.seen == training.total:
            what = _few(absent)
            (table.fail if by_recipe else table.warn)(
                f"{split} classes", f"Label {what} occurs in {split} and never in training.",
                "Give the training split samples of every class.")
    used = {label for by_class in counts.values() for label in by_class}
    if width is not None and len(used) < width:
        table.note("classes", f"{len(used)} of the model's {width} classes occur in the data")


def _few(labels: list[int]) -> str:
    return ", ".join(map(str, labels[:MOST_NAMED])) + (
        f" and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else "")


def _rare(table: Table, counts: Mapping[str, Mapping[int, int]], metric: Metric) -> None:
    judged = counts.get("validation", {})
    most = max(judged.values(), default=0)
    rare = [label for label, count in judged.items()
            if count < FEWEST_SAMPLES or count < RARE_SHARE * most]
    if not rare:
        return
    share = most / sum(judged.values())
    remedy = "Give the validation split more samples of them."
    if isinstance(metric, Accuracy):
        remedy = (f"Answering always with the most frequent class already reaches {share:.1%} "
                  'accuracy: give metric="balanced_accuracy" or metric="f1_macro".')
    table.warn("validation classes", f"Label {_few(rare)} is rare: "
               f"{judged[rare[0]]:,} samples of label {rare[0]}, {most:,} of the most frequent "
               "one.", remedy)
