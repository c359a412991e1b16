"""One campaign in real processes: killed, taken up again, and its end."""

import json

import onnxruntime
import psutil
import pytest

from tests.system.real import (
    Running,
    campaign_file,
    ended_trials,
    fleetfront,
    rows,
    until_gone,
)

CANDIDATES = 6
FINISHED = 2
FINAL_JOBS = "SELECT id, key, kind, state, attempt, result, reason, finished_s FROM jobs " \
             "WHERE state IN ('done', 'failed') ORDER BY id"


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """What the ledger held when the whole tree was killed, and the campaign's folder at its end."""
    folder = tmp_path_factory.mktemp("campaign")
    directory = folder / "data"
    campaign = campaign_file(folder, "task", CANDIDATES,
                             "channel_pruning magnitude_pruning clustering int8 svd")
    with Running("run", campaign, "--dir", directory) as command:
        command.until(lambda: len(ended_trials(directory)) >= FINISHED)
        family = command.family()
        command.kill()
        until_gone(family)
    before = {"trials": ended_trials(directory), "jobs": rows(directory, FINAL_JOBS),
              "processes": len(family)}
    done = fleetfront("run", campaign, "--dir", directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return before, directory, campaign, done.stdout


def test_every_process_of_the_tree_was_there_and_ended(story):
    """Command, coordinator, agent, search and builder at least."""
    assert story[0]["processes"] >= 5


def test_what_was_finished_keeps_ids_hashes_and_figures(story):
    before, directory, _, _ = story
    after = {row["id"]: row for row in ended_trials(directory)}
    assert len(before["trials"]) >= FINISHED
    assert [after[row["id"]] for row in before["trials"]] == before["trials"]


def test_nothing_that_was_done_is_done_again(story):
    before, directory, _, _ = story
    after = {row["id"]: row for row in rows(directory, FINAL_JOBS)}
    assert [after[row["id"]] for row in before["jobs"]] == before["jobs"]
    ended = {row["id"]: row["finished_s"] for row in before["jobs"]}
    spans = rows(directory, "SELECT job, start_s FROM spans")
    assert all(s["start_s"] <= ended[s["job"]] for s in spans if s["job"] in ended)


def test_no_recipe_is_tried_twice_and_the_budget_is_kept(story):
    trials = ended_trials(story[1])
    assert len(trials) == CANDIDATES == len({row["recipe"] for row in trials})


def test_every_candidate_has_a_quality_before_it_is_trained(story):
    directory = story[1]
    fidelity = {row["sha256"]: row["fidelity"] for row in rows(directory, "SELECT * FROM builds")}
    [row] = rows(directory, "SELECT state FROM search_state")
    begins = {}
    for training in json.loads(row["state"])["trainings"]:
        begins.setdefault(training["trial"], training["before"])
    for trial in ended_trials(directory):
        assert "quality_drop" in json.loads(trial["values"]), trial
        assert "repaired" in (fidelity[trial["sha256"]], begins.get(trial["id"])), trial


def test_no_measurement_overlaps_a_build_or_an_evaluation(story):
    spans = rows(story[1], "SELECT kind, job, start_s, end_s FROM spans")
    measured = [span for span in spans if span["kind"] == "measure"]
    others = [span for span in spans if span["kind"] != "measure"]
    assert measured and others and all(span["end_s"] is not None for span in spans)
    overlapping = [(m, o) for m in measured for o in others
                   if m["start_s"] < o["end_s"] and o["start_s"] < m["end_s"]]
    assert overlapping == []


def test_the_front_has_files_and_a_report(story):
    _, directory, _, printed = story
    folder = directory / "tiny-task"
    front = json.loads((folder / "front.json").read_text())
    assert front["points"] and front["baseline"]["values"]["accuracy_test"] > 0.5
    assert "front.json" in printed and "baseline" in printed
    for point in (front["baseline"], *front["points"]):
        saved = folder / "files" / f"{point['candidate'].replace('/', '-')}.onnx"
        assert saved.stat().st_size == point["values"]["file_bytes"]
        onnxruntime.InferenceSession(saved, providers=["CPUExecutionProvider"])
    page = (folder / "report.html").read_text()
    assert all(point["candidate"] in page for point in front["points"])


def test_an_ended_campaign_is_only_printed(story):
    """No process is started, nothing is recorded."""
    _, directory, campaign, _ = story
    counted = rows(directory, "SELECT count(*) AS n FROM agents")
    again = fleetfront("run", campaign, "--dir", directory)
    assert again.returncode == 0
    assert rows(directory, "SELECT count(*) AS n FROM agents") == counted


def test_other_settings_under_the_same_name_are_refused(story):
    _, directory, campaign, _ = story
    changed = campaign.with_name("changed.toml")
    changed.write_text(campaign.read_text().replace("seed = 0", "seed = 1"))
    refused = fleetfront("run", changed, "--dir", directory)
    assert refused.returncode == 1
    assert "tiny-task" in refused.stderr and "another name" in refused.stderr


def test_nothing_is_left_running(story):
    directory = str(story[1])
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"])
            if directory in (p.info["cmdline"] or [])]
    assert left == []


def test_reading_commands_agree_with_the_ledger(story):
    directory = story[1]
    status = json.loads(fleetfront("status", "--dir", directory, "--format", "json").stdout)
    assert status["state"] == "done" and sum(status["trials"].values()) == CANDIDATES
    shown = json.loads(fleetfront("show", "tiny-task/0", "--dir", directory, "--format",
                                  "json").stdout)
    assert shown["candidate"] == "tiny-task/0" and shown["front"]


def test_children_end_with_a_command_that_is_killed(story, tmp_path):
    """The command alone gets SIGKILL; coordinator and agent notice."""
    _, directory, _, _ = story
    model = next((directory / "tiny-task" / "files").iterdir())
    with Running("measure", model, "--dir", tmp_path, "--plan", "strict") as command:
        command.until(lambda: len(command.family()) >= 3)
        family = command.family()
        command.process.kill()
        until_gone(family)
