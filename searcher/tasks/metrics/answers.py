"""What metrics read from outputs and targets: predicted classes, labels, probabilities; each
checked, with messages that say what was found and what is expected."""

from typing import TYPE_CHECKING

from searcher.tasks.metrics.base import SampleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from searcher.tasks.metrics.base import Array

PIECE_BYTES = 2**24
"""Of outputs that are turned into probabilities at once."""


def numbers(outputs: "Array", targets: "Array", metric: str) -> "Array":
    """``outputs`` (n, ...) as finite numbers, one for each of ``targets`` (n, ...). Raises
    ValueError, SampleError for the first output that is not finite."""
    import numpy as np

    outputs, samples = np.asarray(outputs), np.atleast_1d(targets)
    if outputs.dtype.kind not in "biuf":
        raise ValueError(f"outputs have type {outputs.dtype}; {metric} needs numbers")
    if outputs.ndim == 0 or len(outputs) != len(samples):
        raise ValueError(f"outputs of shape {outputs.shape} do not answer {len(samples)} samples")
    check_finite(outputs, "output")
    return outputs


def check_finite(values: "Array", what: str) -> None:
    """Raises SampleError for the first sample of ``values`` (n, ...) that is not finite."""
    import numpy as np

    if values.dtype.kind != "f" or bool(np.isfinite(values).all()):
        return
    rows = values.reshape(len(values), -1)
    sample = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
    wrong = rows[sample][~np.isfinite(rows[sample])]
    raise SampleError(sample, f"{len(wrong)} of {rows.shape[1]} values of its {what} are not "
                              f"finite ({wrong[0]}); expected numbers")


def class_logits(outputs: "Array", targets: "Array", metric: str) -> "Array":
    """``outputs`` as (n, classes), two classes or more. Raises ValueError that names the metric
    for other outputs."""
    found = numbers(outputs, targets, metric)
    if is_logit(found):
        raise ValueError(
            f"outputs of shape {found.shape} hold one logit per sample; {metric} needs one per "
            "class, (n, classes). Use metric \"binary_accuracy\" for one logit of two classes, a "
            "metric of torchmetrics for values")
    if found.ndim != 2:
        raise ValueError(
            f"outputs have shape {found.shape}; {metric} needs one logit per class, (n, classes)."
            + (" Use metric \"mean_iou\" for classes of pixels" if found.ndim > 2 else ""))
    return found


def is_logit(outputs: "Array") -> bool:
    """Whether ``outputs`` hold one logit per sample or pixel: (n,) or (n, 1, ...)."""
    return outputs.ndim == 1 or outputs.shape[1] == 1


def predicted(outputs: "Array") -> "Array":
    """The class of each sample (n,) or pixel (n, ...) by ``outputs`` (n, classes, ...): the largest
    logit, the first of equal ones; for one logit, class 1 where it is positive."""
    import numpy as np

    if is_logit(outputs):
        return (outputs.reshape(len(outputs), *outputs.shape[2:]) > 0).astype(np.int64)
    found: Array = outputs.argmax(axis=1)
    return found


def classes_of(outputs: "Array") -> int:
    """The number of classes that ``outputs`` tell apart."""
    return 2 if is_logit(outputs) else int(outputs.shape[1])


def labels(targets: "Array", shape: tuple[int, ...], classes: int, metric: str,
           ignored: int | None = None) -> "Array":
    """``targets`` as int64 of ``shape``, from 0 to ``classes - 1`` or ``ignored``; an axis of one
    more is dropped. Raises ValueError, SampleError for the first wrong one."""
    import numpy as np

    targets = np.asarray(targets)
    if targets.dtype.kind not in "biuf":
        raise ValueError(f"targets have type {targets.dtype}; {metric} needs class numbers")
    if targets.shape == (*shape[:1], 1, *shape[1:]):
        targets = targets.reshape(shape)
    if targets.shape != shape:
        hint = (". Give class numbers, not one-hot rows: targets.argmax(1)"
                if targets.shape == (*shape[:1], classes, *shape[1:]) else
                ". Bring outputs and targets to one size, at the end of the model or in the data"
                if targets.ndim == len(shape) > 1 else "")
        raise ValueError(f"targets have shape {targets.shape}; {metric} needs class numbers of "
                         f"shape {shape} for these outputs{hint}")
    whole = whole_numbers(targets, metric)
    wrong = (whole < 0) | (whole >= classes)
    if ignored is not None:
        wrong &= whole != ignored
    if wrong.any():
        sample = _first(wrong)
        label = int(np.ravel(whole[sample])[np.flatnonzero(wrong[sample])[0]])
        pixels = (". Pixels that do not count: metric \"mean_iou(ignore_index="
                  f"{label})\"" if len(shape) > 1 and ignored is None else "")
        raise SampleError(sample, f"its target is {label}; expected 0 to {classes - 1}, as the "
                                  f"outputs have {classes} classes{pixels}")
    return whole


def whole_numbers(targets: "Array", metric: str) -> "Array":
    """``targets`` (n, ...) as int64. Raises SampleError for the first that is no whole number."""
    import numpy as np

    check_finite(targets, "target")
    whole = targets.astype(np.int64)
    wrong = whole != targets
    if wrong.any():
        sample = _first(wrong)
        found = np.ravel(targets[sample])[np.flatnonzero(wrong[sample])[0]]
        raise SampleError(sample, f"its target is {found:g}; {metric} needs whole numbers of "
                                  "classes")
    return whole


def _first(wrong: "Array") -> int:
    """The first sample with a wrong value."""
    return int(wrong.reshape(len(wrong), -1).any(axis=1).argmax())


def log_probabilities(outputs: "Array") -> "Array":
    """Of the classes on axis 1: (n, classes, ...) float64; one logit counts as two classes."""
    import numpy as np

    logits = outputs.astype(np.float64)
    if is_logit(outputs):
        logit = logits.reshape(len(logits), 1, *logits.shape[2:])
        logits = np.concatenate([np.zeros_like(logit), logit], axis=1)
    logits = logits - logits.max(axis=1, keepdims=True)
    found: Array = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return found


def pieces(outputs: "Array") -> "Iterator[slice]":
    """Slices of samples whose probabilities fit in the memory of ``PIECE_BYTES``."""
    step = max(1, PIECE_BYTES // max(outputs[:1].size * 8, 1))
    yield from (slice(start, start + step) for start in range(0, len(outputs), step))
