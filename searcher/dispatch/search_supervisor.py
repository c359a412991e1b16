"""Every live campaign is driven by a search, as far as there may be searches."""

import logging
from collections.abc import Callable

from searcher.dispatch.coordinator import Coordinator
from searcher.errors import FleetfrontError
from searcher.ledger.tables import campaigns
from searcher.workers.search_processes import NoSearches, Searches

log = logging.getLogger(__name__)


class Supervision:
    """Between the coordinator's ledger and the search processes; use from its thread."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.searches: Searches = NoSearches()
        self._coordinator = coordinator

    def start(self, searches: Searches) -> None:
        """Campaigns whose search ended with a former coordinator are taken up again."""
        self.searches = searches
        with self._coordinator.store.atomic() as db:
            campaigns.without_search(db)
        self._coordinator.campaigns_changed = self.look
        self.look()

    def look(self) -> None:
        self.searches.drive(campaigns.live(self._coordinator.store.db))

    def progress_of(self, name: str) -> int:
        return campaigns.progress(self._coordinator.store.db, name)

    def search_ended(self, name: str) -> None:
        self._record(lambda: self._waits(name))

    def _waits(self, name: str) -> None:
        with self._coordinator.store.atomic() as db:
            campaigns.without_search(db, name)
        self.look()

    def search_failed(self, name: str, reason: str) -> None:
        log.error("campaign %s failed: %s", name, reason, extra={"campaign": name})
        self._record(lambda: self._fail(name, reason))

    def _fail(self, name: str, reason: str) -> None:
        row = self._coordinator.campaign(name)
        # The search may have said better itself why it gave up.
        if row.state in campaigns.LIVE:
            self._coordinator.set_campaign_state(name, "failed", reason)

    def _record(self, write: Callable[[], None]) -> None:
        """What cannot be written now is seen again: the search is restarted and ends again."""
        try:
            write()
        except FleetfrontError as error:
            log.error("%s", error)
