"""Texts of metrics: names, parameters, torchmetrics, a user's own."""

import subprocess
import sys

import pytest

from searcher.errors import UserError
from searcher.tasks.metrics.registry import METRICS, named

OWN = '''
from searcher.tasks.metrics.base import Metric


class Within(Metric):
    name = "within"
    unit = "share"
    direction = "maximize"

    def __init__(self, *, tolerance):
        if tolerance <= 0:
            raise ValueError("tolerance must be positive")
        self.tolerance = tolerance

    def scores(self, outputs, targets):
        return abs(outputs - targets) <= self.tolerance


class Unfinished(Metric):
    name = "unfinished"
    unit = "share"
    direction = "maximize"


class Nameless(Within):
    name = "two words"
    direction = "upwards"


class Fragile(Within):
    def __init__(self):
        raise RuntimeError("no licence")
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_metrics.py").write_text(OWN)
    (tmp_path / "broken_metrics.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_metrics", None)
    named.cache_clear()


def test_a_text_names_one_metric():
    assert named("mean_iou( ignore_index = 255 )").text == "mean_iou(ignore_index=255)"
    assert named("mean_iou(ignore_index=255)").ignore_index == 255
    assert named("accuracy()").text == named("accuracy").text == "accuracy"
    assert named("kl_divergence(confident=0.5)") is named("kl_divergence(confident=0.5)")


@pytest.mark.parametrize("text", [
    *METRICS.names(), "mean_iou(ignore_index=-1)", "agreement(confident=0.95)",
    "torchmetrics.PearsonCorrCoef(direction='maximize')",
    "torchmetrics.classification.MulticlassAUROC(average='macro', num_classes=3)"])
def test_a_text_reads_back(text):
    assert named(text).text == text
    assert named(named(text).text).text == text


def test_a_class_of_the_users_own(own):
    metric = named("own_metrics:Within(tolerance=0.5)")
    assert (metric.name, metric.tolerance) == ("within", 0.5)
    assert metric.text == "own_metrics:Within(tolerance=0.5)"


@pytest.mark.parametrize(("text", "said"), [
    ("acuracy", "Unknown metric 'acuracy'. Did you mean 'accuracy'"),
    ("", "no name.*mean_iou"),
    ("mean_iou(255)", "a parameter has no name"),
    ("mean_iou(**{'a': 1})", "a parameter has no name"),
    ("mean_iou(ignore_index=", r"found '\(ignore_index='.*expected parameters"),
    ("mean_iou(ignore_index=1) + 2", "expected parameters"),
    ("mean_iou(ignore_index=open('x'))", r"ignore_index is open\('x'\); expected a number"),
    ("mean_iou(ignore=1)", "no parameter 'ignore'. Did you mean 'ignore_index'"),
    ("mean_iou(ignore_index=0.5)", "ignore_index is 0.5; expected an integer"),
    ("accuracy(top=5)", "no parameter 'top'"),
    ("agreement(confident=80)", "confident is 80; expected a probability"),
    ("torchmetrics.MeanAbsolutError", "Did you mean 'torchmetrics.MeanAbsoluteError'"),
    ("torchmetrics.MulticlassAUROC(num_classes=3)",
     "Did you mean 'torchmetrics.classification.MulticlassAUROC'"),
    ("torchmetrics.classification.MulticlassAUROC", "'num_classes' is missing"),
    ("torchmetrics.classification.MulticlassAUROC(num_class=3)", "Did you mean 'num_classes'"),
    ("torchmetrics.classification.MulticlassAUROC(num_classes=-3)", "cannot be made"),
    ("torchmetrics.PearsonCorrCoef", "direction=\"maximize\" or direction=\"minimize\""),
    ("torchmetrics.PearsonCorrCoef(direction='up')", "direction is 'up'"),
    ("torchmetrics.MeanMetric", "takes value; a task has outputs and targets only"),
    ("torchmetrics.retrieval.RetrievalMAP", "takes preds, target, indexes"),
    ("torchmetrics.functional.accuracy", "is no metric of torchmetrics"),
    ("no_such_package.metrics:Mine", "cannot be imported: ModuleNotFoundError"),
    ("json:JSONDecoder", "no subclass of searcher.tasks.metrics.base.Metric"),
])
def test_a_text_that_is_wrong(text, said):
    with pytest.raises(UserError, match=said) as caught:
        named(text)
    assert not str(caught.value).endswith("..")


@pytest.mark.parametrize(("text", "said"), [
    ("own_metrics:Withn(tolerance=1)", "has no 'Withn'. Did you mean 'Within'"),
    ("own_metrics:Within", "'tolerance' is missing: write \"own_metrics:Within\\(tolerance=...\\)"),
    ("own_metrics:Within(tolerance=-1)", "tolerance must be positive"),
    ("own_metrics:Within(tolerance='a')", "'<=' not supported"),
    ("own_metrics:Unfinished", "Unfinished does not implement scores"),
    ("own_metrics:Nameless(tolerance=1)", "name = 'two words'.*direction = 'upwards'"),
    ("own_metrics:Fragile", "no licence"),
    ("broken_metrics:Mine", "No module named 'no_such_module'"),
])
def test_a_class_that_is_wrong(own, text, said):
    with pytest.raises(UserError, match=said):
        named(text)


def test_a_name_imports_neither_torch_nor_torchmetrics():
    code = ("import sys; from searcher.tasks.metrics.registry import named\n"
            "named('mean_iou(ignore_index=255)'); named('kl_divergence')\n"
            "sys.exit(bool({'torch', 'torchmetrics', 'numpy'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
