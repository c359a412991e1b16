import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from searcher.errors import UserError
from searcher.results.report_html import figures, write_report
from searcher.results.view import Reading
from tests.searcher_tests.filled import Folder, finished
from tests.searcher_tests.results.test_scans import CLUSTERING, PRUNING


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return Reading(finished(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def page(reading: Reading) -> str:
    output = reading.directory / "folder" / "report.html"
    write_report(reading, None, output)
    return output.read_text(encoding="utf-8")


class Links(HTMLParser):
    """External resources of a page, and its table rows."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.rows += tag == "tr"
        if tag in ("script", "img", "iframe", "link", "a"):
            self.loaded += [v for k, v in named.items() if k in ("src", "href") and v]


def without_scripts(page: str) -> str:
    return re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL)


def test_the_page_loads_nothing(page: str) -> None:
    links = Links()
    links.feed(page)
    assert links.loaded == [] and "Plotly" in page
    assert links.rows == 1 + 3 + 1 + 2 + 2, "heads, baseline and two points; two points; one failed"


def test_it_says_what_was_found_and_how(page: str) -> None:
    text = without_scripts(page)
    for said in ("digits on local_cpu", "4 complete", "2 on the front", "hypervolume",
                 "<tr class='baseline'>", "digits/0", "98.00% [94.97%, 99.22%]", "4.00x", "8.0x",
                 "channel_pruning[convolutions](keep_ratio=0.5, round_to=4)", "those of the metric",
                 "0.2500 [0.2500, 0.2500]", "<td>quick</td>", "CPUExecutionProvider",
                 "times that level, with onnxruntime, CPUExecutionProvider, 1 thread, batch 1"):
        assert said in text, said


def test_two_and_three_objectives(reading: Reading) -> None:
    front, everyone = reading.front("digits"), reading.candidates("digits")
    charts = figures(front, everyone)
    assert [type(c.data[0]).__name__ for c in charts] == ["Scatter", "Scatter", "Scatter3d"]
    for chart in charts:
        found = {trace.name: trace for trace in chart.data}
        assert {name: len(t.x) for name, t in found.items()} == {
            "other": 2, "front": 2, "baseline": 1}
        hover = found["front"].text[0]
        assert "digits/1" in hover and "clustering[model](bits=3)" in hover and "500 B" in hover
    latency = next(c for c in charts if "against latency_s" in c.layout.title.text)
    front_trace = latency.data[1]
    assert tuple(front_trace.x) == (0.25e-3, 0.5e-3) and tuple(front_trace.y) == (0.98, 0.985)
    assert tuple(front_trace.error_y.array) == pytest.approx((0.01, 0.01))
    assert latency.data[2].marker.symbol == "star", "the baseline is marked"
    assert latency.layout.xaxis.type == "log"


def test_one_cost_has_one_chart(reading: Reading) -> None:
    front = reading.front("digits")
    front = replace(front, objectives=front.objectives[:2])
    assert len(figures(front, reading.candidates("digits"))) == 1


def test_names_cannot_write_the_page(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign()
    folder.trial(0)
    folder.db.execute("UPDATE measurements SET provider = '<script>alert(1)</script>'")
    folder.close()
    write_report(Reading(tmp_path), "digits", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page and "<script>alert(1)" not in page


def test_each_scan_is_a_closed_table(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign()
    folder.scans(PRUNING, replace(CLUSTERING, left={"<b>": "it is <i>odd</i>"}))
    folder.close()
    write_report(Reading(tmp_path), "digits", tmp_path / "report.html")
    text = without_scripts((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert text.count("<details>") == text.count("</details>") == 2 and "<details open" not in text
    for said in ("<summary>clustering: loss by bits, 2 layers, 128 samples</summary>",
                 "<tr><th>layer</th><th>weights</th><th>2</th><th>3</th><th>4</th></tr>",
                 "<tr><td>a.fc</td><td>4,096</td><td>0.5</td><td>0</td><td></td></tr>",
                 "coarser, to end in time: 16 samples instead of 128",
                 "left out: conv2, conv3 (its channels go with those of conv1)",
                 "left out: &lt;b&gt; (it is &lt;i&gt;odd&lt;/i&gt;)"):
        assert said in text, said


def test_no_section_without_scans(page: str) -> None:
    assert "What each layer loses" not in page and "<details>" not in without_scripts(page)


def test_a_front_without_points_is_still_a_page(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign(state="running")
    folder.close()
    write_report(Reading(tmp_path), "digits", tmp_path / "report.html")
    assert "0 on the front" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_no_page_without_a_campaign(tmp_path: Path) -> None:
    Folder(tmp_path).close()
    with pytest.raises(UserError, match="No campaign"):
        write_report(Reading(tmp_path), "digits", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
