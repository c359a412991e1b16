"""The check of a task in real processes: before the baseline, and when a campaign is resumed."""

from tests.system.real import Running, fleetfront, rows, until_gone

CAMPAIGN = """
name = "own"
task = "own:task"
builders = 1
[budget]
candidates = 3
wall_minutes = 3
[constraints]
quality_drop = 0.9
[measurement]
plan = {min_blocks = 6, max_s = 1.0, block_s = 0.0005, gate = 9.0, warmup_s = 0.01}
[search]
strategies = ["clustering"]
"""
MISTAKES = "tests.searcher_tests.builders.checks.user_tasks"
SCALED = f"""
from {MISTAKES} import made

def task():
    return made(lambda x, y: (x * FACTOR, y), only="validation", epochs=dict(short=1, full=2))
"""


def files(folder, source):
    (folder / "own.toml").write_text(CAMPAIGN)
    (folder / "own.py").write_text(source)


def test_a_task_with_errors_ends_the_run_with_all_of_them_before_anything_is_built(tmp_path):
    files(tmp_path, f"from {MISTAKES} import overlap as task\n")
    done = fleetfront("run", "own.toml", "--dir", "data", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The task 'own:task' cannot be used:" in done.stderr
    assert "are in training too" in done.stderr and "no sample is in two splits" in done.stderr
    campaign, = rows(tmp_path / "data", "SELECT state, reason FROM campaigns")
    assert campaign["state"] == "failed" and "overlap" in campaign["reason"]
    assert {job["kind"] for job in rows(tmp_path / "data", "SELECT kind FROM jobs")} == {
        "check_task"}


def test_changed_data_stop_a_resumed_campaign_and_are_named(tmp_path):
    data = tmp_path / "data"
    files(tmp_path, SCALED.replace("FACTOR", "1.0"))
    with Running("run", "own.toml", "--dir", data, cwd=tmp_path) as running:
        running.until(lambda: rows(data, "SELECT state FROM search_state") != [])
        said = [running.process.stdout.readline() for _ in range(2)]
        members = running.family()
    until_gone(members)
    assert said[0].startswith("task: own:task, 200 / 240 / 120 samples")
    assert said[1].startswith("baseline: trained for 1 epoch, at most about")
    (tmp_path / "own.py").write_text(SCALED.replace("FACTOR", "0.9"))
    changed = fleetfront("run", "own.toml", "--dir", data, cwd=tmp_path)
    assert changed.returncode == 1
    assert "has changed since the campaign 'own' began: the validation data." in changed.stderr
    (tmp_path / "own.py").write_text(SCALED.replace("FACTOR", "1.0"))
    restored = fleetfront("run", "own.toml", "--dir", data, cwd=tmp_path)
    assert restored.returncode == 0, restored.stdout + restored.stderr
