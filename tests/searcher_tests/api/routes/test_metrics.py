"""Content of a scrape; a scrape does not read the history."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from searcher.api.app import create_app
from searcher.api.routes.metrics import RequestCounts
from searcher.ledger.tables import builds, campaigns, trials
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import SPEC, Laboratory, recipe

OPERATOR = {"Authorization": "Bearer start"}
Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraped:
    """One lab and its metrics."""

    def __init__(self, lab: Laboratory, server: LocalServer) -> None:
        self.lab, self.server = lab, server
        self.http = httpx.Client(base_url="http://test", transport=server, headers=OPERATOR)

    def figures(self) -> Figures:
        answer = self.http.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        return {(sample.name, frozenset(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(answer.text)
                for sample in family.samples}

    def figure(self, name: str, **labels: str) -> float | None:
        return self.figures().get((name, frozenset(labels.items())))


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[Scraped]:
    lab = Laboratory.open(tmp_path)
    with LocalServer(create_app(lab.coordinator, "start")) as server:
        yield Scraped(lab, server)
    lab.store.close()


def test_jobs_and_leases(scraped: Scraped) -> None:
    lab = scraped.lab
    builder, agent = lab.builder(), lab.device(hostname="elsewhere")
    for number in range(3):
        lab.compress(number)
    lab.measure()
    lab.done(builder, lab.leased(builder))
    lab.leased(builder)
    lab.leased(agent)
    figures = scraped.figures()

    def of(name: str, **labels: str) -> float | None:
        return figures.get((name, frozenset(labels.items())))

    assert of("fleetfront_jobs", kind="compress", state="queued") == 1
    assert of("fleetfront_jobs", kind="compress", state="leased") == 1
    assert of("fleetfront_jobs", kind="measure", state="leased") == 1
    assert of("fleetfront_jobs_ended_total", kind="compress", state="done") == 1
    assert of("fleetfront_leases_total") == 3
    assert (of("fleetfront_commit_seconds_count") or 0) >= 8
    assert (of("fleetfront_commit_seconds_sum") or 0) > 0
    assert (of("process_resident_memory_bytes") or 0) > 1e6
    lab.clock.advance(31.0)
    lab.coordinator.tick()
    assert scraped.figure("fleetfront_leases_lost_total", kind="measure") == 1


def test_devices_campaigns_and_trials(scraped: Scraped) -> None:
    lab = scraped.lab
    for name in ("tx2", "nano"):
        lab.device(name, hostname="elsewhere")
    lab.coordinator.set_device_state("nano", "quarantined")
    assert scraped.figure("fleetfront_devices", state="active") == 1
    assert scraped.figure("fleetfront_devices", state="quarantined") == 1
    db = lab.store.db
    campaigns.create(db, "digits", SPEC, 1.0)
    builds.put_recipe(db, recipe().hash, recipe().as_list())
    trial = trials.create(db, "digits", "tx2", recipe().hash, {}, {}, 2.0)
    assert scraped.figure("fleetfront_campaigns", state="queued") == 1
    assert scraped.figure("fleetfront_trials", state="running") == 1
    trials.tell(db, trial, "pruned", {}, 3.0)
    assert scraped.figure("fleetfront_trials", state="running") == 0
    assert scraped.figure("fleetfront_trials", state="pruned") == 1


def test_requests_by_route_and_status(scraped: Scraped) -> None:
    for path in ("/v1/jobs/1", "/v1/jobs/2", "/healthz", "/v1/birds"):
        scraped.http.get(path)
    scraped.http.request("BREW", "/v1/jobs/1")
    scraped.http.get("/v1/devices", headers={"Authorization": "Bearer wrong"})

    def seen(method: str, route: str, status: str) -> float | None:
        return scraped.figure(
            "fleetfront_request_seconds_count", method=method, route=route, status=status)

    assert seen("GET", "/v1/jobs/{job}", "404") == 2
    assert seen("GET", "/healthz", "200") == 1
    assert seen("GET", "other", "404") == 1
    assert seen("other", "/v1/jobs/{job}", "405") == 1
    assert seen("GET", "/v1/devices", "401") == 1
    assert seen("GET", "/metrics", "200") == 5


def test_every_metric_is_documented(scraped: Scraped) -> None:
    page = (Path(__file__).parents[4] / "docs" / "devices.md").read_text()
    text = scraped.http.get("/metrics").text
    names = re.findall(r"^# TYPE (fleetfront_\w+)", text, re.MULTILINE)
    assert len(names) == 9
    for name in names:
        assert f"`{name}`" in page, name


def test_words_of_callers_do_not_fill_the_memory() -> None:
    requests = RequestCounts()
    for status in (None, 200, 200):
        requests.add("GET", "/x", status, 0.5)
    assert requests.answered == {("GET", "/x", "none"): [1, 0.5], ("GET", "/x", "200"): [2, 1.0]}


def test_a_scrape_reads_no_history(scraped: Scraped) -> None:
    seen: list[str] = []
    scraped.lab.store.db.conn.set_trace_callback(seen.append)
    scraped.figures()
    scraped.lab.store.db.conn.set_trace_callback(None)
    assert any("jobs" in sql for sql in seen)
    for sql in seen:
        for row in scraped.lab.store.db.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall():
            words = row[3].split()
            if words[0] == "SCAN" and words[1] != "devices":
                assert words[1] == "jobs" and words[-1] in ("jobs_to_lease", "jobs_leased"), row[3]
