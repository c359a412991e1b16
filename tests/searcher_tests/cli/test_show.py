"""``fleetfront show``: why a candidate is or is not on the front."""

from pathlib import Path

from searcher.results.candidate_details import details_of
from searcher.results.view import Reading
from tests.searcher_tests.filled import Folder


def test_a_candidate_missing_in_the_joint_measurement(tmp_path: Path) -> None:
    """With its earlier figures the candidate would dominate the front, but they are not
    comparable."""
    folder = Folder(tmp_path)
    folder.campaign(state="running")
    for number, ratio in enumerate((0.5, 0.25, 0.1)):
        folder.trial(number, ratio=ratio, file_bytes=1000 - 100 * number)
    folder.together({1: 0.2, 2: 0.3})
    folder.close()
    reading = Reading(tmp_path)
    assert details_of(reading, "digits/0").why.startswith("on the front")
    assert details_of(reading, "digits/2").why == (
        "not on the front: another candidate was clearly better when it was measured")
