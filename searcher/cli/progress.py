"""Live progress of a campaign: a rich display on a terminal, a line every 15 s elsewhere."""

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import typer

from searcher.results.formatting import bytes_text, time_text

if TYPE_CHECKING:
    from searcher.results.front import Front
    from searcher.results.status import CampaignStatus

LINE_EVERY_S = 15.0


class Progress:
    """Context manager; ``show(status, front)`` may be called at any rate."""

    def __init__(self, directory: Path) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._directory = directory
        self._last_s = -LINE_EVERY_S

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self._console.is_terminal:
            self._console.print(line, highlight=False, markup=False)
        else:
            typer.echo(line, err=True)

    def show(self, status: "CampaignStatus", front: "Front | None") -> None:
        """``front`` is None until the baseline is measured."""
        line = headline(status, front)
        if self._console.is_terminal:
            from rich.text import Text

            self._live.update(Text(line))
        elif time.monotonic() - self._last_s >= LINE_EVERY_S:
            self._last_s = time.monotonic()
            typer.echo(line.splitlines()[0], err=True)


def headline(status: "CampaignStatus", front: "Front | None") -> str:
    """State and counts in one line, then the best points so far."""
    text = (f"{status.campaign}: {status.elapsed_s:.0f} s, "
            + ", ".join(f"{count} {state}" for state, count in status.trials.items()))
    if front is None:
        return text + " - training and measuring the baseline"
    base, name = front.baseline.values, front.quality.name
    quality_text = front.quality.objective.text
    text += f" - baseline {name} {quality_text(base[name])}, {time_text(base['latency_s'])}"
    for point in front.points[:12]:
        values = point.values
        text += (f"\n  {quality_text(values[name])}  "
                 f"{base['latency_s'] / values['latency_s']:.2f}x faster  "
                 f"{base['file_bytes'] / values['file_bytes']:.0f}x smaller "
                 f"({bytes_text(values['file_bytes'])})  {point.candidate}")
    return text
