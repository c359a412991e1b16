"""The complete message of a failed candidate is available in every command and in the API."""

import html
import json
from pathlib import Path

import pytest

from searcher.api.app import create_app
from searcher.client.http import CoordinatorClient
from searcher.local.run import write_results
from searcher.results.failures import whole_text
from searcher.results.view import Reading
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.cli.conftest import Run
from tests.searcher_tests.dispatch.laboratory import Laboratory
from tests.searcher_tests.filled import Folder

BUILT = ("unsupported_graph",
         "step 2 (channel_pruning on conv1): channel_pruning cannot follow the channels of this "
         "graph: <conv1> is cut in two.")
MEASURED = ("crashed: signal 9 (the kernel ended it)",
            "on tx2: crashed: signal 9 (the kernel ended it)")
QUARANTINED = ("quarantined", "on tx2: Given up after 3 attempts without a result; the last: the "
                              "lease expired.")
OLD = ("nan_loss", None)
FAILED = {1: BUILT, 2: MEASURED, 3: QUARANTINED, 4: QUARANTINED, 5: OLD}
WORDS = {"quarantined": 2, "crashed": 1, "nan_loss": 1, "unsupported_graph": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    folder = Folder(directory)
    folder.campaign()
    folder.trial(0)
    for number, (reason, message) in FAILED.items():
        folder.trial(number, "failed", values=False, reason=reason, message=message)
    folder.close()
    return directory


@pytest.mark.parametrize(("number", "said"), [
    (1, f"unsupported_graph: {BUILT[1]}"), (2, MEASURED[1]), (3, f"quarantined: {QUARANTINED[1]}"),
    (5, "nan_loss")])
def test_show(run: Run, data: Path, number: int, said: str) -> None:
    command = ("show", f"digits/{number}", "--dir", data)
    assert f"not on the front: {said}\n" in run(*command).out
    document = json.loads(run(*command, "--format", "json").out)
    assert (document["reason"], document["message"]) == FAILED[number]
    assert document["front"] == f"not on the front: {said}"


def test_status_counts_the_reasons(run: Run, data: Path) -> None:
    for command in (("status",), ("campaigns",)):
        document = json.loads(run(*command, "--dir", data, "--format", "json").out)
        document = document if isinstance(document, dict) else document[0]
        assert document["failures"] == WORDS and document["trials"]["failed"] == 5
        assert list(document["failures"]) == list(WORDS), "the most frequent first"
    assert "failures     quarantined 2, crashed 1, nan_loss 1, unsupported_graph 1\n" in run(
        "status", "--dir", data).out


def test_the_front_has_every_failure(data: Path, run: Run) -> None:
    write_results(Reading(data), "digits")
    written = json.loads((data / "digits" / "front.json").read_text())["failures"]
    assert written == [{"candidate": f"digits/{number}", "reason": reason, "message": message}
                       for number, (reason, message) in FAILED.items()]
    printed = json.loads(run("front", "--dir", data, "--format", "json").out)
    assert printed["failures"] == written
    page = (data / "digits" / "report.html").read_text(encoding="utf-8")
    for reason, message in FAILED.values():
        assert html.escape(whole_text(reason, message)) in page
    assert "By reason: quarantined 2, crashed 1, nan_loss 1, unsupported_graph 1." in page


def test_the_api_has_the_whole_messages_and_the_counts(data: Path) -> None:
    lab = Laboratory.open(data)
    with LocalServer(create_app(lab.coordinator, "operator")) as server:
        client = CoordinatorClient("http://test", "operator", transport=server)
        found = {trial.number: (trial.reason, trial.message)
                 for trial in client.trials("digits", state="failed")}
        assert found == FAILED
        assert client.campaign("digits").failures == client.campaigns()[0].failures == WORDS
    lab.store.close()


def test_reason_and_message_in_one_text() -> None:
    assert whole_text("busy", None) == whole_text("busy", "busy") == "busy"
    assert whole_text("busy", "on tx2: busy") == "on tx2: busy"
    assert whole_text("io", "no space left") == "io: no space left"
