"""Mistakes from issue trackers of training libraries: the row names split or field, what was
found, what is expected and what to do."""

import pytest

from searcher.builders.checks.check import check
from strategies.target import Target

TASKS = "tests.searcher_tests.builders.checks.user_tasks"


def rows_of(factory, verdict):
    return [row for row in check(f"{TASKS}:{factory}", 0, Target()).rows
            if row.verdict == verdict]


def said(rows):
    return "\n".join(f"{row.field}: {row.found} | {row.remedy}" for row in rows)


@pytest.mark.parametrize(("factory", "field", "found", "remedy"), [
    # "Invalid argument: indices[0] = [0,148] is out of bounds" (labels that begin with 1)
    ("from_one", "training labels", "The labels 4 name no output", "targets - 1"),
    # "HappyTextClassification : Target -1 is out of bounds."
    ("ignored_labels", "training labels", "The labels -1 name no output", "leave these samples"),
    # "IndexError: Target 63 is out of bounds"
    ("too_few_outputs", "training labels", "0 to 2 are expected", "the model 4 outputs"),
    # "Error in nll_loss - multi-target not supported" (one-hot targets)
    ("one_hot", "targets", "They are one-hot: int64 (4,) per sample", "targets.argmax(1)"),
    # "RuntimeError: 0D or 1D target tensor expected, multi-target not supported"
    ("column_labels", "targets", "They have the shape (n, 1)", "targets[:, 0]"),
    # "RuntimeError: expected scalar type Long but found Float"
    ("float_labels", "targets", "whole numbers of type float32", "targets.long()"),
    # "two class segmentation (label 0,255 ), the iou = 0, acc = nan"
    ("ignored_pixels", "training labels", "The labels 255 name no output",
     "mean_iou(ignore_index=255)"),
    # "BCEWithLogitsLoss": labels of another loss, -1 and 1
    ("minus_and_plus", "training labels", "Found -1, 1", "(targets + 1) / 2"),
    # "ValueError: Target size (torch.Size([16])) must be the same as input size ([16, 1])"
    ("unsqueezed_logit", "loss", "must be the same as input size", "y.float()"),
    # one logit, judged by argmax
    ("one_logit", "metric", "'accuracy' does not fit", "binary_accuracy"),
    # "How is the model so accurate?" (all samples of one class)
    ("one_class", "training classes", "have one label, 0", "samples of every class"),
    ("missing_class", "validation classes", "Label 3 occurs in validation", "every class"),
    # "expected input[1, 512, 512, 3] to have 3 channels, but got 512 channels instead"
    ("channels_last", "outputs", "float32 tensor of shape (64, 8, 8, 3)", "x.permute(2, 0, 1)"),
    # "Grayscale images compatibility issue"
    ("grey_for_colour", "outputs", "float32 tensor of shape (64, 1, 8, 8)",
     "takes 3 channels, the samples have 1"),
    # "Incredibly unhelpful error message for giving missing channels to conv2d layer"
    ("no_channel", "outputs", "float32 tensor of shape (64, 8, 8)", "add the axis"),
    # "Input type (Byte) and weight type (Float) should be the same"
    ("uint8_pictures", "outputs", "uint8 tensor of shape (64, 1, 8, 8)", "x.float()"),
    # "loss=nan occurs during training" (NaN in an input picture)
    ("nan_inputs", "validation input input", "the first is sample 233", "Remove these samples"),
    # "stack expects each tensor to be equal size, but got [3, 544, 386] at entry 0 ..."
    ("ragged", "training samples", "training[5]: input 'input' has shape (1, 7, 8)",
     ""),
    # "default_collate: batch must contain tensors ...; found <class 'PIL.Image.Image'>" (paths)
    ("paths", "training samples", "the text 'pictures/0.png'", ""),
    # "default_collate: batch must contain tensors ...; found <class 'NoneType'>"
    ("nothing", "training samples", "training[5]: found None", ""),
    ("no_target", "data", "training: found float32 tensor", ""),
    # "OSError: image file is truncated"
    ("raises_at_713", "training samples", "training[713]: OSError: image file is truncated", ""),
    # "num_samples should be a positive integer value, but got num_samples=0"
    ("empty", "data", "training: it has 0 samples", ""),
    ("lengths", "data", "validation: the numbers of samples differ: inputs 239, targets 240", ""),
    # "object of type 'IterableDataset' has no len()"
    ("stream", "data", "training: Stream is an IterableDataset", ""),
    # "overlaps between training set and valdiation set"
    ("overlap", "overlap", "are in training too", "no sample is in two splits"),
    # "Allow frozen parameters with requires_grad=False"
    ("frozen", "model", "requires_grad is False", "requires_grad_(True)"),
    # "Cannot export DataParallel model"
    ("parallel", "model", "wrapped in DataParallel", "model.module"),
    # "deepcopy of Lazy modules returns an exception"
    ("lazy", "model", "lazy layers", "Run it once"),
    ("on_meta", "model", "device meta", "Load the weights"),
    ("nan_weights", "model", "The weights 0.bias of Sequential hold NaN", "did not diverge"),
    # "Failed in fine-tuning inception_v3" (a tuple in training mode)
    ("auxiliary_in_training", "loss", "outputs a Answer of 2", "take the tensor"),
    ("gives_none", "outputs", "returns None", "Return a tensor"),
    ("gives_list", "outputs", "must be tensors", "Return a tensor"),
    ("mean_over_batch", "output output", "for a batch of 64 samples", "Do not average"),
    # "Loss is Nan"
    ("infinite_loss", "loss", "It is inf in the first step", "log or division of 0"),
    # "element 0 of tensors does not require grad and does not have a grad_fn"
    ("detached_loss", "loss", "It has no gradient", "detach()"),
    # "grad can be implicitly created only for scalar outputs"
    ("loss_per_sample", "loss", "float32 tensor of shape (64,)", "loss.mean()"),
    ("untrained_as_given", "baseline", "better than chance", "baseline=BaselineTraining(...)"),
    ("unknown_metric", "metric", "Unknown metric 'acuracy'. Did you mean 'accuracy'?", ""),
    ("random_weights", "digest", "when the task is loaded again", "fixed seeds"),
    ("augment_changes_shape", "augment", "float32 tensor of shape (64, 1, 7, 8)", "same shape"),
    ("augment_without_seed", "augment", "called again with one seed", "manual_seed(seed)"),
    ("batch_size_in_graph", "parity", "", "size of the batch"),
    ("no_export", "export", "cannot be exported to ONNX", "operators that ONNX has"),
    ("raises", "task", "raises() raised KeyError: 'weights.pt'", ""),
    ("gives_a_model", "task", "container.Sequential, expected a fleetfront.Task", ""),
    ("sond", "task", "Did you mean 'sound'?", ""),
])
def test_an_error_names_what_is_wrong(factory, field, found, remedy):
    errors = rows_of(factory, "error")
    fitting = [row for row in errors if row.field == field]
    assert any(found in row.found and remedy in f"{row.found} {row.remedy}"
               for row in fitting), said(errors)


@pytest.mark.parametrize(("factory", "field", "found", "remedy"), [
    # "Why pytorch does not accept input image as uint8 type" (not scaled)
    ("unscaled_pictures", "input input", "whole numbers up to 255", "1/255"),
    # "Why do you normalize only the train features and not the val features?"
    ("other_scale", "validation input input", "in training they are", "in the same way"),
    # "Double softmax in cross entropy with logits"
    ("softmax_twice", "loss", "sum to 1", "leave the softmax out"),
    # "Different behaviour of BCEWithLogitsLoss and BCELoss + Sigmoid"
    ("sigmoid_twice", "loss", "within 0 to 1", "leave the sigmoid out"),
    ("rare_class", "validation classes", "Label 1 is rare", "balanced_accuracy"),
    ("few_overlap", "overlap", "1 samples of test are in validation too", "two splits"),
    # "DataLoader(collate_fn=lambda ..., num_workers=1) breaks on Windows"
    ("unpicklable_workers", "training workers", "cannot be pickled", "not as lambda"),
    ("random_validation", "validation samples", "augmented at random", "without augmentation"),
])
def test_a_warning_names_what_is_odd(factory, field, found, remedy):
    warnings = rows_of(factory, "warning")
    assert any(row.field == field and found in row.found and remedy in row.remedy
               for row in warnings), said(warnings)


@pytest.mark.parametrize("factory", ["sound", "sound_dataset", "carved"])
def test_a_sound_task_has_neither_errors_nor_warnings(factory):
    found = check(f"{TASKS}:{factory}", 0, Target())
    assert said(found.of("error")) == said(found.of("warning")) == ""
    assert found.facts is not None and found.facts.samples["training"] == 200


def test_a_carved_test_split_is_said():
    rows = {row.field: row.found for row in check(f"{TASKS}:carved", 0, Target()).rows}
    assert "120 of the 240 validation samples" in rows["test split"]


def test_what_depends_on_an_error_is_said_to_be_not_checked():
    skipped = rows_of("raises", "not checked")
    assert {row.field for row in skipped} >= {"model", "training step", "export"}
