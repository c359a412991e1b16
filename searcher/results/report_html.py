"""One self-contained page: the front in two and three objectives, a table, how it was measured."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from searcher.results.failures import counts_text
from searcher.results.formatting import bytes_text, direction_text, time_text
from searcher.results.front import Front, FrontPoint, missing
from searcher.results.measurement_summary import summary_of
from searcher.results.scans import loss_table
from searcher.results.status import CampaignStatus
from searcher.results.view import Reading, StoredCandidate
from searcher.spec.objectives import TEST_DROP, Quality, costs_of
from searcher.spec.recipe import Recipe
from searcher.spec.scan_result import ScanResult
from searcher.statistics.node_summary import node_notes

COLOURS = {"front": "#0b6e4f", "other": "#b9c0c7", "baseline": "#c1440e"}
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px}
body{padding:0 1rem;color:#1c2126}
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{border-bottom:1px solid #dde1e5;padding:.35rem .5rem;text-align:right;vertical-align:top}
th:first-child,td:first-child,td:last-child,th:last-child{text-align:left}
td.message{text-align:left;white-space:pre-wrap}
tr.baseline td{background:#fdf1ea}code{font-size:12px}p.note{color:#58616a}
.numbers td:last-child,.numbers th:last-child{text-align:right}
.scroll{overflow-x:auto}details{margin:.6rem 0}summary{cursor:pointer}
"""


def write_report(reading: Reading, campaign: str | None, output: Path) -> None:
    """Write the page of ``campaign`` to ``output``; it loads nothing from anywhere."""
    front = reading.front(campaign)
    everyone = reading.candidates(front.campaign)
    status = reading.status(front.campaign, 0.0)
    scans = reading.scans(front.campaign).get(front.device, ())
    charts = "\n".join(_chart(figure) for figure in figures(front, everyone))
    title = html.escape(f"{front.campaign} on {front.device}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>{title}</h1>"
        f"<p class='note'>{_counts(status, front)}</p>{charts}"
        f"<h2>The front</h2><div class='scroll'>{_table(front)}</div>{_dropped(front)}"
        f"<h2>How each figure was measured</h2>{_method(front, everyone)}{_scans(scans)}"
        f"{_failures(front, status)}</body></html>", encoding="utf-8")


@dataclass(frozen=True)
class ChartPoint:
    """One marker."""

    candidate: str
    recipe: Recipe
    values: Mapping[str, float]
    intervals: Mapping[str, Sequence[float]]


Series = tuple[tuple[str, Sequence[ChartPoint | FrontPoint]], ...]
"""Points by the name of their trace."""


def figures(front: Front, everyone: Sequence[StoredCandidate]) -> list[go.Figure]:
    """The metric against each cost, then all three together when there are two costs."""
    costs = costs_of(front.objectives)
    others = [ChartPoint(c.name, c.recipe, c.figures.values, c.figures.intervals)
              for c in everyone
              if c.trial.state == "complete" and not front.has(c.name)
              and all(cost in c.figures.values for cost in costs)]
    series: Series = (("other", others), ("front", front.points), ("baseline", [front.baseline]))
    flat = [_flat(series, cost, front.quality) for cost in costs]
    return [*flat, _solid(series, costs, front.quality)] if len(costs) == 2 else flat


def _flat(series: Series, cost: str, quality: Quality) -> go.Figure:
    name_of, axis = quality.name, _axis(quality)
    figure = go.Figure()
    for name, points in series:
        if not points:
            continue
        figure.add_trace(go.Scatter(
            x=[p.values[cost] for p in points], y=[p.values[name_of] for p in points],
            error_x=_bars(points, cost), error_y=_bars(points, name_of, name != "other"),
            mode="markers", name=name, text=[_hover(p, quality) for p in points],
            hoverinfo="text",
            marker={"color": COLOURS[name], "size": 7 if name == "other" else 11,
                    "symbol": "star" if name == "baseline" else "circle"}))
    figure.update_layout(title=f"{name_of} on validation against {cost}", xaxis_title=cost,
                         yaxis_title=axis, xaxis_type="log",
                         template="plotly_white", height=430)
    return figure


def _axis(quality: Quality) -> str:
    return f"{quality.name} (validation; {direction_text(quality)})"


def _solid(series: Series, costs: list[str], quality: Quality) -> go.Figure:
    figure = go.Figure()
    for name, points in series:
        figure.add_trace(go.Scatter3d(
            x=[p.values[costs[0]] for p in points], y=[p.values[costs[1]] for p in points],
            z=[p.values[quality.name] for p in points], mode="markers", name=name,
            text=[_hover(p, quality) for p in points], hoverinfo="text",
            marker={"color": COLOURS[name], "size": 3 if name == "other" else 6}))
    figure.update_layout(
        title="three objectives", template="plotly_white", height=600,
        scene={"xaxis": {"title": {"text": costs[0]}, "type": "log"},
               "yaxis": {"title": {"text": costs[1]}, "type": "log"},
               "zaxis": {"title": {"text": quality.name}}})
    return figure


def _bars(points: Sequence[ChartPoint | FrontPoint], name: str,
          shown: bool = True) -> dict[str, object]:
    """Error bars as plotly takes them."""
    if not shown or any(name not in p.intervals for p in points):
        return {"visible": False}
    return {"type": "data", "symmetric": False, "thickness": 1, "width": 2,
            "array": [max(p.intervals[name][1] - p.values[name], 0) for p in points],
            "arrayminus": [max(p.values[name] - p.intervals[name][0], 0) for p in points]}


def _hover(point: ChartPoint | FrontPoint, quality: Quality) -> str:
    steps = "<br>".join(html.escape(s) for s in str(point.recipe).split(" > "))
    values = point.values
    return (f"<b>{html.escape(point.candidate)}</b><br>{steps}<br>"
            f"{html.escape(quality.name)} {quality.objective.text(values[quality.name])}<br>"
            f"latency {time_text(values['latency_s'])}<br>"
            f"file {bytes_text(values['file_bytes'])}")


def _chart(figure: go.Figure) -> str:
    text: str = figure.to_html(full_html=False, include_plotlyjs=False)
    return text


def _counts(status: CampaignStatus, front: Front) -> str:
    trials = ", ".join(f"{n} {state}" for state, n in status.trials.items())
    return (f"{status.state}; candidates: {trials}; {len(front.points)} on the front; "
            f"hypervolume {front.hypervolume:.4f}. Bars and brackets are 95 % intervals.")


def _table(front: Front) -> str:
    base = front.baseline.values
    rows = []
    for point in front.files:
        values = point.values
        cells = [
            point.candidate, _with_interval(point, front.quality.name, front.quality),
            _with_interval(point, front.quality.test_name, front.quality),
            _with_interval(point, TEST_DROP, front.quality),
            time_text(values["latency_s"]), f"{base['latency_s'] / values['latency_s']:.2f}x",
            f"{values['file_bytes']:,}", f"{base['file_bytes'] / values['file_bytes']:.1f}x",
            str(point.recipe)]
        kind = " class='baseline'" if point is front.baseline else ""
        rows.append(f"<tr{kind}>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>")
    heads = ("candidate", "validation", "test", "lost on test", "latency", "faster", "bytes",
             "smaller", "recipe")
    return ("<table><tr>" + "".join(f"<th>{h}</th>" for h in heads) + "</tr>"
            + "".join(rows) + "</table>")


def _dropped(front: Front) -> str:
    gone = missing(front.files)
    if not gone:
        return ""
    named = ", ".join(f"{html.escape(name)} (<code>{sha256}</code>)"
                      for name, sha256 in gone.items())
    return (f"<p class='note'>Files that were dropped to bound the disk and are built again on "
            f"demand (<code>fleetfront front --save</code>): {named}.</p>")


def _failures(front: Front, status: CampaignStatus) -> str:
    """Every candidate that failed, with its whole message; nothing where none did."""
    if not front.failures:
        return ""
    rows = "".join(f"<tr><td>{html.escape(failure.candidate)}</td>"
                   f"<td class='message'>{html.escape(failure.text)}</td></tr>"
                   for failure in front.failures)
    return (f"<h2>Candidates that failed</h2><p>By reason: "
            f"{html.escape(counts_text(status.failures))}.</p><div class='scroll'><table>"
            f"<tr><th>candidate</th><th>why</th></tr>{rows}</table></div>")


def _scans(scans: Sequence[ScanResult]) -> str:
    """One closed table per strategy, since networks may have hundreds of layers; nothing without
    scans."""
    if not scans:
        return ""
    return ("<h2>What each layer loses alone</h2><p>Squared error of the model's outputs, relative "
            "to their variance, when one layer alone has the strength of the column; the losses of "
            "several layers add up.</p>" + "".join(map(_scan, scans)))


def _scan(scan: ScanResult) -> str:
    table = loss_table(scan)
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                   for row in table.rows)
    notes = "".join(f"<p class='note'>{html.escape(note)}</p>" for note in table.notes)
    return (f"<details><summary>{html.escape(table.title)}</summary><div class='scroll'>"
            f"<table class='numbers'><tr>{heads}</tr>{rows}</table></div>{notes}</details>")


def _with_interval(point: FrontPoint, name: str, quality: Quality) -> str:
    if name not in point.values:
        return ""
    text = quality.objective.text
    if name not in point.intervals:
        return text(point.values[name])
    low, high = point.intervals[name]
    return f"{text(point.values[name])} [{text(low)}, {text(high)}]"


def _method(front: Front, everyone: Sequence[StoredCandidate]) -> str:
    rows = []
    for candidate in everyone:
        measured = candidate.measurement
        if not front.has(candidate.name) or measured is None:
            continue
        notes = "; ".join(measured.warnings())
        provider = "; ".join(node_notes(summary_of(measured))) or measured.provider
        rows.append(
            f"<tr><td>{html.escape(candidate.name)}</td><td>{measured.ratio:.4f} "
            f"[{measured.ratio_low:.4f}, {measured.ratio_high:.4f}]</td><td>{measured.n}</td>"
            f"<td>{measured.quiet_share:.0%}</td><td>{measured.plan.get('name')}</td>"
            f"<td>{html.escape(provider)}</td><td>{measured.verdict} "
            f"{html.escape(notes)}</td></tr>")
    return (
        "<p>Latency: blocks of a few milliseconds of the candidate between blocks of the baseline "
        "in one process; only blocks beside which the baseline ran at its quiet level count. The "
        f"figure is the median ratio times that level, with {html.escape(front.measured_with)}, "
        f"batch 1. {html.escape(front.quality.name)} ({direction_text(front.quality)}): of the "
        f"exported file, computed on {html.escape(front.quality_place)}; validation chose the "
        "points, the test split was not seen by the search. Intervals: order statistics for "
        "ratios, those of the metric for its values, paired differences over the same samples for "
        "losses. "
        "Size: bytes of the one .onnx file.</p><div class='scroll'><table><tr><th>candidate</th>"
        "<th>ratio to the baseline</th><th>quiet blocks</th><th>quiet share</th><th>plan</th>"
        "<th>provider</th><th>verdict</th></tr>" + "".join(rows) + "</table></div>")
