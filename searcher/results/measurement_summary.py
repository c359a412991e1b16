"""The summary of a stored measurement, parsed."""

from searcher.documents import parse
from searcher.ledger.rows import MeasurementRow
from searcher.statistics.measured import Summary


def summary_of(measured: MeasurementRow) -> Summary | None:
    """None unless the measurement is valid. Raises ValueError for a summary that is malformed."""
    return None if measured.summary is None else parse(Summary, measured.summary)
