"""A daemon in real processes: two campaigns on one device, paused, resumed, cancelled, stopped,
killed and started again."""

import json
import signal
import socket
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from searcher.client.http import connect
from tests.system.real import (
    Running,
    campaign_file,
    ended_trials,
    fleetfront,
    rows,
    until_gone,
)

CANDIDATES = {"patient": 8, "urgent": 3, "unwanted": 40, "here": 3}
"""``unwanted`` is cancelled on its way, ``patient`` may be done before the daemon is back."""
DEVICE = "bench-1"
PROFILE = "desktop_gpu"
"""Its float16 is not the host's, so the agent, ONNX Runtime on this CPU, answers the data sets."""
STRATEGIES = "channel_pruning magnitude_pruning clustering int8 svd"


class Lab:
    """One folder, its daemons one after another on one port, and an agent that outlives them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.directory = folder, folder / "lab"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def serve(self) -> Running:
        daemon = Running("serve", "--dir", self.directory, "--port", self.port, "--searches", 1,
                         "--builders", 1, "--tasks", "tests.system.tiny_task:task",
                         "--log-format", "json")
        daemon.until(lambda: self.address().get("pid") == daemon.process.pid)
        return daemon

    def address(self) -> dict:
        file = self.directory / "coordinator.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def agent(self) -> Running:
        with connect(self.directory) as client:
            token = client.create_enrolment(DEVICE, "agent", PROFILE).token
        file = self.folder / "token"
        file.write_text(token)
        return Running("agent", "--coordinator", f"http://127.0.0.1:{self.port}", "--token-file",
                       file, "--name", DEVICE, "--spool", self.folder / "spool")

    def file(self, name: str) -> Path:
        """Each has a seed of its own, so that none finds its builds made by another."""
        file = campaign_file(
            self.folder, "task", CANDIDATES[name], STRATEGIES, seed=len(name))
        text = file.read_text().replace('name = "tiny-task"', f'name = "{name}"')
        file = self.folder / f"{name}.toml"
        file.write_text(f'{text}\n[[devices]]\nname = "{DEVICE}"\n')
        return file

    def command(self, word: str, *arguments: object) -> str:
        done = fleetfront(word, *arguments, "--dir", self.directory)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def states(self) -> dict[str, str]:
        found = rows(self.directory, "SELECT name, state FROM campaigns")
        return {row["name"]: row["state"] for row in found}

    def asked(self, name: str) -> list[dict]:
        return rows(self.directory, f"SELECT id FROM trials WHERE campaign = '{name}'")

    def ended(self, name: str) -> list[dict]:
        return [row for row in ended_trials(self.directory) if row["campaign"] == name]


class Story(NamedTuple):
    lab: Lab
    refused: str
    killed: list[dict]
    stopped: int
    stderr: str
    left: list[psutil.Process]


def kill(daemon: Running) -> None:
    """SIGKILL for the daemon alone; its children notice."""
    family = daemon.family()
    daemon.process.kill()
    until_gone(family)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    lab = Lab(tmp_path_factory.mktemp("daemon"))
    with lab.serve() as daemon:
        early = fleetfront("submit", lab.file("patient"), "--dir", lab.directory)
        agent = lab.agent()
        try:
            daemon.until(lambda: rows(lab.directory, "SELECT * FROM devices") != [])
            assert "patient: queued, priority 0" in lab.command("submit", lab.file("patient"))
            daemon.until(lambda: lab.states()["patient"] == "running")
            lab.command("submit", lab.file("urgent"), "--priority", 5)
            daemon.until(lambda: lab.states() == {"patient": "queued", "urgent": "running"})
            daemon.until(lambda: lab.asked("urgent") != [])
            assert lab.command("pause", "urgent") == "urgent: paused\n"
            daemon.until(lambda: len(lab.ended("patient")) >= 1)
            lab.command("submit", lab.file("unwanted"), "--priority", 9)
            daemon.until(lambda: lab.states()["unwanted"] == "running")
            assert lab.command("cancel", "unwanted") == "unwanted: cancelled\n"
            kill(daemon)
            return finish(lab, early.stderr, agent)
        finally:
            agent.__exit__()


def finish(lab: Lab, refused: str, agent: Running) -> Story:
    """From the ledger that a killed daemon left to the end of both campaigns."""
    before = ended_trials(lab.directory)
    with lab.serve() as daemon:
        daemon.until(lambda: lab.states()["patient"] in ("running", "done"))
        assert lab.states()["urgent"] == "paused"
        lab.command("resume", "urgent")
        daemon.until(lambda: lab.states()["urgent"] == "running")
        family = daemon.family()
        daemon.process.send_signal(signal.SIGTERM)
        stopped = daemon.process.wait(timeout=20)
        _, left = psutil.wait_procs(family, timeout=5)
        said = daemon.process.stdout.read() if daemon.process.stdout else ""
        assert not (lab.directory / "coordinator.json").exists(), said
    with lab.serve() as daemon:
        daemon.until(lambda: lab.states() == {
            "patient": "done", "urgent": "done", "unwanted": "cancelled"})
        assert agent.process.poll() is None
    return Story(lab, refused, before, stopped, said, left)


def test_a_device_must_be_enrolled_before_a_campaign_names_it(story: Story) -> None:
    assert "no such device is enrolled" in story.refused and "device enrol" in story.refused


def test_sigterm_ends_it_well(story: Story) -> None:
    assert story.stopped == 0 and story.left == []
    assert "Traceback" not in story.stderr


def test_its_log_is_one_object_a_line(story: Story) -> None:
    lines = [json.loads(line) for line in story.stderr.splitlines() if line.startswith("{")]
    assert lines and all({"time", "level", "logger", "message"} <= set(line) for line in lines)


def test_what_ended_before_the_kill_stays(story: Story) -> None:
    after = {row["id"]: row for row in ended_trials(story.lab.directory)}
    assert story.killed and [after[row["id"]] for row in story.killed] == story.killed


@pytest.mark.parametrize("name", ["patient", "urgent"])
def test_a_front_appears(story: Story, name: str) -> None:
    assert len(story.lab.ended(name)) == CANDIDATES[name]
    front = json.loads(story.lab.command("front", name, "--format", "json"))
    assert front["device"] == DEVICE and front["points"]
    assert front["baseline"]["values"]["accuracy_test"] > 0.5
    assert all(Path(point["artifact"]).is_file() for point in front["points"])


@pytest.mark.parametrize("name", ["patient", "urgent"])
def test_accuracies_come_from_the_device_and_are_those_of_this_machine(
        story: Story, name: str) -> None:
    directory, place = story.lab.directory, f"{DEVICE}/onnxruntime/CPUExecutionProvider"
    front = json.loads(story.lab.command("front", name, "--format", "json"))
    assert front["quality_place"] == place
    for point in (front["baseline"], *front["points"]):
        found = rows(directory, "SELECT split, place, value, scores FROM evaluations WHERE "
                     f"sha256 = '{point['sha256']}'")
        by_place = {(row["split"], row["place"]): row for row in found}
        assert set(by_place) == {("validation", "host"), ("validation", place), ("test", place)}
        assert by_place["validation", place]["scores"] == by_place["validation", "host"]["scores"]
        assert point["values"]["accuracy"] == by_place["validation", place]["value"]
        assert point["values"]["accuracy_test"] == by_place["test", place]["value"]
    kinds = {row["kind"] for row in rows(directory, "SELECT kind FROM jobs WHERE state = 'failed'")}
    assert "infer" not in kinds


def test_what_was_cancelled_left_no_job_waiting(story: Story) -> None:
    waiting = rows(story.lab.directory, "SELECT j.id FROM jobs j JOIN job_requests r ON r.job = "
                   "j.id WHERE r.campaign = 'unwanted' AND j.state IN ('queued', 'leased')")
    assert waiting == []


def test_nothing_was_accepted_twice(story: Story) -> None:
    doubled = rows(story.lab.directory, "SELECT job, sha256 FROM measurements "
                   "GROUP BY job, sha256 HAVING count(*) > 1")
    assert doubled == []


def test_campaigns_are_listed_without_a_daemon(story: Story) -> None:
    listed = json.loads(story.lab.command("campaigns", "--format", "json"))
    assert {row["campaign"]: row["priority"] for row in listed} == {
        "patient": 0, "urgent": 5, "unwanted": 9}
    assert "patient" in story.lab.command("campaigns")


def test_run_on_a_daemons_folder_names_submit(story: Story) -> None:
    with story.lab.serve():
        ended = fleetfront("run", _with_profile(story.lab), "--dir", story.lab.directory)
    assert ended.returncode == 1 and "fleetfront submit" in ended.stderr


def _with_profile(lab: Lab) -> Path:
    file = lab.folder / "here.toml"
    file.write_text(lab.file("here").read_text().replace(
        f'name = "{DEVICE}"', 'profile = "local_cpu"'))
    return file
