"""The table and the picture of the ingest bench."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_COLUMNS = (
    ("CPU s", "own_cpu_s", "{:.3f}"),
    ("PostgreSQL", "postgresql_cpu_s", "{:.3f}"),
    ("RabbitMQ", "rabbitmq_cpu_s", "{:.3f}"),
    ("origin", "origin_cpu_s", "{:.3f}"),
    ("cores", "cores", "{:.2f}"),
    ("MiB/stream", "memory_mib", "{:.1f}"),
    ("polls", "polls_per_segment", "{:.2f}"),
    ("lost", "lost", "{:.0f}"),
    ("of", "offered", "{:.0f}"),
    ("lag p50 s", "lag_p50_s", "{:.3f}"),
    ("p99 s", "lag_p99_s", "{:.3f}"),
)
_COLORS = {"ours": "#0a7", "minimal": "#888", "ffmpeg": "#c40", "streamlink": "#04c"}
_WIDTH, _HEIGHT, _MARGIN = 720, 420, 60


def table(found: Sequence[dict[str, Any]]) -> None:
    made = Table(title="Live 1080p at 6 Mbit/s, per stream-minute")
    made.add_column("contestant")
    for title in ("streams", *(title for title, _, _ in _COLUMNS)):
        made.add_column(title, justify="right")
    for each in found:
        figures = (text.format(each[name]) for _, name, text in _COLUMNS)
        made.add_row(each["contestant"], str(each["streams"]), *figures)
    Console(width=140).print(made)


def write_picture(found: Sequence[dict[str, Any]], path: Path) -> None:
    """CPU-seconds per stream-minute over the number of streams, as SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    most_streams = max(each["streams"] for each in found)
    most_cpu_s = max(each["own_cpu_s"] for each in found) * 1.1

    def place(each: dict[str, Any]) -> tuple[float, float]:
        x = _MARGIN + (_WIDTH - 2 * _MARGIN) * each["streams"] / most_streams
        return x, _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * each["own_cpu_s"] / most_cpu_s

    lines = [_frame(most_streams, most_cpu_s)]
    for row, name in enumerate(dict.fromkeys(each["contestant"] for each in found)):
        points = [place(each) for each in found if each["contestant"] == name]
        lines.append(_curve(name, points, row=row))
    path.write_text("\n".join([*lines, "</svg>", ""]))


def _frame(most_streams: int, most_cpu_s: float) -> str:
    bottom, right = _HEIGHT - _MARGIN, _WIDTH - _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>'
        f'<path d="M{_MARGIN} {_MARGIN}V{bottom}H{right}" fill="none" stroke="#333"/>'
        f'<text x="{_MARGIN}" y="{_MARGIN - 20}">CPU-seconds per stream-minute (top: {most_cpu_s:.2f})</text>'
        f'<text x="{right}" y="{bottom + 30}" text-anchor="end">streams (right: {most_streams})</text>'
    )


def _curve(name: str, points: Sequence[tuple[float, float]], *, row: int) -> str:
    color = _COLORS.get(name, "#000")
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>' for x, y in points)
    label = f'<text x="{_WIDTH - _MARGIN - 90}" y="{_MARGIN + 18 * row}" fill="{color}">{name}</text>'
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>{dots}{label}'
