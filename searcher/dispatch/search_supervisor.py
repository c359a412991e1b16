"""Starts one search process per live campaign, up to the configured limit."""

import logging
from collections.abc import Callable

from searcher.dispatch.coordinator import Coordinator
from searcher.errors import FleetfrontError
from searcher.ledger.tables import campaigns
from searcher.workers.search_processes import NoSearches, Searches

log = logging.getLogger(__name__)


class Supervision:
    """Keeps the search processes and the campaigns of the ledger consistent.

    Use it from the coordinator's thread.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self.searches: Searches = NoSearches()
        self._coordinator = coordinator

    def start(self, searches: Searches) -> None:
        """Start the searches, also for campaigns that ran in the previous coordinator process."""
        self.searches = searches
        with self._coordinator.store.atomic() as db:
            campaigns.without_search(db)
        self._coordinator.campaigns_changed = self.update_searches
        self.update_searches()

    def update_searches(self) -> None:
        self.searches.drive(campaigns.live(self._coordinator.store.db))

    def progress_of(self, name: str) -> int:
        return campaigns.progress(self._coordinator.store.db, name)

    def search_ended(self, name: str) -> None:
        self._record(lambda: self._queue_again(name))

    def _queue_again(self, name: str) -> None:
        with self._coordinator.store.atomic() as db:
            campaigns.without_search(db, name)
        self.update_searches()

    def search_failed(self, name: str, reason: str) -> None:
        log.error("campaign %s failed: %s", name, reason, extra={"campaign": name})
        self._record(lambda: self._fail(name, reason))

    def _fail(self, name: str, reason: str) -> None:
        row = self._coordinator.campaign(name)
        # The search may have recorded a more precise reason itself.
        if row.state in campaigns.LIVE:
            self._coordinator.set_campaign_state(name, "failed", reason)

    def _record(self, write: Callable[[], None]) -> None:
        """Write to the ledger. A failure is only logged: the search restarts and ends again."""
        try:
            write()
        except FleetfrontError as error:
            log.error("%s", error)
