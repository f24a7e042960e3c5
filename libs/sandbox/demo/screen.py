"""The demo in the terminal: live progress while the stream runs, tables at its end."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sandbox.demo.report import Report


@dataclass(frozen=True)
class Progress:
    """What is known at one moment."""

    stream: dict[str, Any]
    live_s: float
    length_s: float
    segments: int
    windows: int
    analyzed: int
    confirmed: int
    clips: int
    webhooks: int
    verified: int
    latest: tuple[str, ...]


def render(progress: Progress) -> RenderableType:
    """One frame of the live display."""
    facts = Table.grid(padding=(0, 2))
    status = str(progress.stream.get("status", "pending"))
    rows = (
        ("stream", f"{progress.stream.get('id', 'waiting for the gateway')}  {status}"),
        ("on air", f"{progress.live_s:.0f} of {progress.length_s:.0f} s"),
        ("segments", f"{progress.segments} archived"),
        ("windows", f"{progress.analyzed} of {progress.windows} analysed"),
        ("highlights", f"{progress.confirmed} confirmed, {progress.clips} clips"),
        ("webhooks", f"{progress.webhooks} received, {progress.verified} verified"),
    )
    for name, value in rows:
        facts.add_row(Text(name, style="bold"), value)
    bar = ProgressBar(total=max(progress.length_s, 0.1), completed=progress.live_s, width=50)
    latest = [Text(line, style="green") for line in progress.latest]
    return Panel(Group(facts, bar, *latest), title="TL;DR Highlight API", width=100)


def show_report(console: Console, report: Report) -> None:
    console.print(_highlights(report))
    console.print(_webhooks(report))
    console.print(_latency(report))


def _highlights(report: Report) -> Table:
    table = Table(title=f"Highlights of {report.stream.id}", show_lines=True)
    for column in ("time", "type", "score", "reason", "clip"):
        table.add_column(column, overflow="fold")
    for row in sorted(report.highlights, key=lambda each: each.start_s):
        time = f"{_clock(row.start_s)} – {_clock(row.end_s)}"
        table.add_row(time, row.type, f"{row.score:.2f}", row.reason, row.clip_path or "missing")
    return table


def _webhooks(report: Report) -> Table:
    table = Table(title="Webhooks received")
    for column in ("time", "type", "id", "X-TLDR-Signature", "Standard Webhooks"):
        table.add_column(column)
    for row in report.webhooks:
        table.add_row(
            row.received_at.strftime("%H:%M:%S.%f")[:-3],
            row.type,
            row.id,
            _verdict(row.signature_ok),
            _verdict(row.standard_ok),
        )
    return table


def _latency(report: Report) -> Table:
    table = Table(title="Latency, wall time")
    table.add_column("from … to")
    table.add_column("seconds", justify="right")
    for name, value in report.latency_s.model_dump().items():
        table.add_row(name.replace("_", " "), "–" if value is None else f"{value:.3f}")
    table.add_row("coverage", f"{report.stream.coverage_pct:.1f} %")
    for row in report.analysis:
        judge = " ".join(filter(None, (row.provider, row.model)))
        table.add_row(f"windows by {judge}", f"{row.windows} for ${row.cost_microusd / 1e6:.4f}")
    return table


def _verdict(verified: bool) -> Text:
    return Text("verified", style="green") if verified else Text("WRONG", style="bold red")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}"
