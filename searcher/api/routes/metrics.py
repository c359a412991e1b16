"""``/metrics`` for Prometheus, computed from the ledger and from memory at every scrape.

No query of a scrape reads history: queued and leased jobs are in partial indexes, ended ones are
counted as they end (``searcher.ledger.tables.counters``).
"""

import time
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from searcher.api.roles import ROUTES
from searcher.dispatch.coordinator import Coordinator
from searcher.ledger.tables import counters, jobs
from searcher.ledger.tables import devices as device_table

router = APIRouter(tags=["metrics"])
_METHODS = frozenset(method for method, _ in ROUTES)


class RequestCounts:
    """Number and total seconds of answered requests, by method, route and status."""

    def __init__(self) -> None:
        self.answered: dict[tuple[str, str, str], list[float]] = {}

    def add(self, method: str, route: str, status: int | None, took_s: float) -> None:
        """``status`` is None if the caller closed the connection first."""
        seen = self.answered.setdefault((method, route, str(status or "none")), [0.0, 0.0])
        seen[0] += 1
        seen[1] += took_s


class Timing:
    """The outermost ASGI middleware: adds every answer to ``requests``."""

    def __init__(self, app: ASGIApp, requests: RequestCounts) -> None:
        self._app, self._requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = time.perf_counter()
        status: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            status = status or 500
            raise
        finally:
            # Only known words: arbitrary ones of callers would fill the memory.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = scope.get("state", {}).get("route") or "other"
            self._requests.add(method, route, status, time.perf_counter() - began_s)


class LedgerCollector(Collector):
    """Metrics of the coordinator and its ledger at the time of the scrape."""

    def __init__(
        self, coordinator: Coordinator, requests: RequestCounts, ended: counters.EndedJobs
    ) -> None:
        self._coordinator, self._requests, self._ended = coordinator, requests, ended

    def collect(self) -> Iterator[Metric]:
        yield from self._of_jobs()
        yield from self._of_the_lab()
        yield from self._of_requests()
        yield from self._of_commits()

    def _of_jobs(self) -> Iterator[Metric]:
        db = self._coordinator.store.db
        now = GaugeMetricFamily(
            "fleetfront_jobs", "Jobs that are queued or leased.",
            labels=("kind", "state"))
        for kind, state, number in jobs.unfinished(db):
            now.add_metric((kind, state), number)
        yield now
        ended = CounterMetricFamily(
            "fleetfront_jobs_ended", "Jobs that ended since the start.", labels=("kind", "state"))
        self._ended.catch_up()
        for labels, number in sorted(self._ended.counts.items()):
            ended.add_metric(labels, number)
        yield ended
        yield CounterMetricFamily(
            "fleetfront_leases", "Leases granted so far (last fence).", value=jobs.last_fence(db))
        lost = CounterMetricFamily(
            "fleetfront_leases_lost", "Leases that ended without a result since the start.",
            labels=("kind",))
        for kind, number in sorted(self._coordinator.leases.lost.items()):
            lost.add_metric((kind,), number)
        yield lost

    def _of_the_lab(self) -> Iterator[Metric]:
        db = self._coordinator.store.db
        devices = GaugeMetricFamily("fleetfront_devices", "Devices by state.", labels=("state",))
        for state, number in device_table.device_counts(db).items():
            devices.add_metric((state,), number)
        yield devices
        for what in counters.FOLLOWED:
            family = GaugeMetricFamily(
                f"fleetfront_{what}s", f"{what.capitalize()}s by state.", labels=("state",))
            for state, number in counters.read(db, what):
                family.add_metric((state,), number)
            yield family

    def _of_requests(self) -> Iterator[Metric]:
        family = SummaryMetricFamily(
            "fleetfront_request_seconds", "Requests and the time until the end of their answers; a "
            "lease request waits for work.", labels=("method", "route", "status"))
        for labels, (number, seconds) in sorted(self._requests.answered.items()):
            family.add_metric(labels, int(number), seconds)
        yield family

    def _of_commits(self) -> Iterator[Metric]:
        store = self._coordinator.store
        commits = SummaryMetricFamily(
            "fleetfront_commit_seconds", "Commits of the ledger, each synced to the disk.")
        commits.add_metric((), store.commits, store.commit_s)
        yield commits


def registry_of(
    coordinator: Coordinator, requests: RequestCounts, ended: counters.EndedJobs
) -> CollectorRegistry:
    """Call this, and run every scrape, in the ledger's thread."""
    counters.begin(coordinator.store.db)
    registry = CollectorRegistry()
    registry.register(LedgerCollector(coordinator, requests, ended))
    ProcessCollector(registry=registry)
    return registry


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Metrics of the coordinator in the text format of Prometheus."""
    content = generate_latest(request.app.state.registry)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST})
