"""Documentation that would silently go stale: names, links, ranges and examples."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agents.meters.catalog import METERS
from profiles.schema import DeviceProfile
from searcher.cli.main import app
from searcher.spec import campaign
from searcher.spec.measurement_plan import PLANS
from searcher.tasks.base import Task
from searcher.tasks.catalog import TASKS
from searcher.tasks.metrics.registry import METRICS
from strategies.base import Limits
from strategies.catalog import all_strategies

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [*sorted(DOCS.glob("*.md")),
         *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)")
PYTHON = re.compile(r"^```python runnable\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```sh runnable\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page(name):
    return (DOCS / name).read_text()


def section(text, heading):
    """The text below ``## heading``, up to the next heading of its level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text,
                      re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def names_of(document):
    """Every key of a campaign document, by table."""
    return {"Top level": ("name", "task", "seed", "builders"),
            **{f"`[{table}]`": tuple(document[table]) for table in
               ("budget", "measurement", "search")},
            "`[[devices]]`": tuple(document["devices"][0])}


FULL = campaign.from_document({"name": "a", "task": "b"}).as_dict()


@pytest.mark.parametrize(("heading", "key"), [
    (heading, key) for heading, keys in names_of(FULL).items() for key in keys])
def test_every_campaign_key_is_documented(heading, key):
    assert f"| `{key}`" in section(page("campaign.md"), heading)


def test_no_table_of_the_campaign_is_forgotten():
    tables = {key for key, value in FULL.items() if isinstance(value, dict | list)}
    assert tables == {"budget", "objectives", "constraints", "measurement", "devices", "search"}
    assert all(re.search(rf"^## `\[+{table}\]+`$", page("campaign.md"), re.MULTILINE)
               for table in tables)


def test_every_objective_constraint_sampler_and_task_is_documented():
    text = page("campaign.md")
    for name in campaign.MEASURABLE:
        assert f"| `{name}`" in section(text, "`[objectives]`")
    for name in campaign.CONSTRAINTS & {*campaign.MEASURABLE, "quality_drop"}:
        assert f"| `{name}`" in section(text, "`[constraints]`")
    for name in (*campaign.SAMPLERS, *TASKS):
        assert f"`{name}`" in text


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Task)])
def test_every_field_of_a_task_is_documented(field):
    assert f"`{field}`" in section(page("tasks.md"), "The fields of a task")


@pytest.mark.parametrize("key", [f.name for f in dataclasses.fields(DeviceProfile)])
def test_every_profile_key_is_documented(key):
    assert f"`{key}`" in section(page("devices.md"), "Profiles")


@pytest.mark.parametrize("key", PLANS["quick"]._fields)
def test_every_plan_key_is_documented_with_its_values(key):
    row = next(line for line in section(page("measurement.md"), "Plans").splitlines()
               if line.startswith(f"| `{key}`"))
    cells = [cell.strip() for cell in row.strip("|").split("|")][2:]
    shown = {True: "yes", False: "no"}
    values = [getattr(plan, key) for plan in PLANS.values()]
    if key != "name":
        assert cells == [shown[v] if isinstance(v, bool) else f"{v:g}" for v in values]


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.name)
def test_every_meter_is_documented(meter):
    assert f"| `{meter.name}`" in section(page("measurement.md"), "Meters")


def commands():
    """Every command; those of a group with its name before theirs."""
    return [info.name for info in app.registered_commands] + [
        f"{group.name} {info.name or info.callback.__name__}"
        for group in app.registered_groups for info in group.typer_instance.registered_commands]


@pytest.mark.parametrize("command", commands())
def test_every_command_is_documented_with_an_example(command):
    text = section(page("cli.md"), f"fleetfront {command}")
    assert re.search(rf"^```sh.*\n(.*\n)*?fleetfront {command}\b", text, re.MULTILINE), command


class Asked:
    """A suggester that remembers the ranges it was asked for."""

    def __init__(self):
        self.ranges = {}

    def suggest_float(self, name, low, high, *, log=False):
        self.ranges[name] = f"searched from {low:g} to {high:g}"
        return low

    suggest_int = suggest_float


@pytest.mark.parametrize("strategy", all_strategies(), ids=lambda strategy: strategy.name)
def test_every_strategy_is_documented_with_parameters_and_ranges(strategy):
    text = section(page("strategies.md"), strategy.name)
    asked = Asked()
    strategy.suggest(asked, (), Limits())
    flat = " ".join(text.split())
    for field in dataclasses.fields(strategy):
        line = flat.partition(f"`{field.name}`:")[2].partition("- ")[0]
        assert line, f"{field.name} is missing"
        assert asked.ranges.get(field.name, "") in line
    assert "Limits:" in text and re.search(r"\b(19|20)\d\d\b", text), "limits or paper missing"


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_relative_links_resolve(file):
    for link in LINK.findall(file.read_text()):
        place, _, anchor = link.partition("#")
        if "://" in place:
            continue
        target = file.parent / place if place else file
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, link


@pytest.mark.parametrize("command", [
    line for file in PAGES for block in FENCE.findall(file.read_text())
    for line in block.splitlines() if line.strip()])
def test_runnable_examples_run(command, tmp_path):
    binaries = Path(sys.executable).parent
    done = subprocess.run(
        shlex.split(command), cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "code"), [
    (file.name, block) for file in PAGES for block in PYTHON.findall(file.read_text())])
def test_runnable_python_runs(name, code, tmp_path):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}: {done.stderr}"


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_is_documented(name):
    assert f"| `{name}`" in section(page("metrics.md"), "Which metric")


def test_examples_of_the_readme_name_commands_that_exist():
    known = {command.partition(" ")[0] for command in commands()}
    used = set(re.findall(r"^fleetfront (\w+)", (REPOSITORY / "README.md").read_text(),
                          re.MULTILINE))
    assert used and used <= known


def test_campaigns_in_examples_load():
    for file in sorted((REPOSITORY / "examples").glob("*.toml")):
        campaign.load(file)
