"""The demo's result as data: what was found, what was delivered, how long it took, and whether it succeeded."""

from collections.abc import Iterable
from datetime import datetime
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict

from sandbox.receiver import Received
from shared.events import SegmentAnalyzed


class Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class StreamRow(Row):
    id: str
    status: str
    coverage_pct: float
    duration_s: float


class HighlightRow(Row):
    id: str
    start_s: float
    end_s: float
    peak_s: float
    score: float
    type: str
    reason: str
    title: str
    video_url: str | None
    thumbnail_url: str | None
    clip_path: str | None


class WebhookRow(Row):
    id: str
    type: str
    received_at: datetime
    signature_ok: bool
    standard_ok: bool


class Latency(Row):
    """Wall time in seconds; None where there was nothing to measure."""

    webhook_to_first_segment: float | None
    segment_to_analyzed_p50: float | None
    confirmed_to_clip_p50: float | None
    event_to_webhook_p50: float | None


class AnalysisRow(Row):
    """Who judged how many windows, and what that cost as far as it is known."""

    provider: str
    model: str
    windows: int
    model_calls: int
    cost_microusd: int


class Report(Row):
    stream: StreamRow
    highlights: tuple[HighlightRow, ...]
    webhooks: tuple[WebhookRow, ...]
    latency_s: Latency
    analysis: tuple[AnalysisRow, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the demo did not succeed; empty when it did."""
        delivered = {row.type for row in self.webhooks}
        return tuple(
            text
            for text, wrong in (
                (f"the stream is {self.stream.status}", self.stream.status != "completed"),
                ("no highlight was found", not self.highlights),
                ("no highlight was delivered by webhook", "highlight.created" not in delivered),
                ("a clip is missing", any(row.clip_path is None for row in self.highlights)),
                (
                    "a webhook did not verify",
                    not all(row.signature_ok and row.standard_ok for row in self.webhooks),
                ),
            )
            if wrong
        )


def analysis_rows(verdicts: Iterable[SegmentAnalyzed]) -> tuple[AnalysisRow, ...]:
    judges: dict[tuple[str, str], list[SegmentAnalyzed]] = {}
    for verdict in verdicts:
        judges.setdefault((verdict.provider, verdict.model), []).append(verdict)
    return tuple(
        AnalysisRow(
            provider=provider,
            model=model,
            windows=len(judged),
            model_calls=sum(each.model_calls for each in judged),
            cost_microusd=sum(each.cost_microusd for each in judged),
        )
        for (provider, model), judged in sorted(judges.items())
    )


def p50_s(values: Iterable[float]) -> float | None:
    found = sorted(values)
    return round(median(found), 3) if found else None


def webhook_rows(received: Iterable[Received]) -> tuple[WebhookRow, ...]:
    return tuple(
        WebhookRow(
            id=one.id,
            type=one.type,
            received_at=one.received_at,
            signature_ok=one.signature_ok,
            standard_ok=one.standard_ok,
        )
        for one in received
    )


def delivery_delays_s(received: Iterable[Received]) -> tuple[float, ...]:
    """From each public event's `created` to its arrival."""
    return tuple(
        (one.received_at - datetime.fromisoformat(one.payload["created"])).total_seconds() for one in received
    )


def highlight_row(found: dict[str, Any], *, clip_path: str | None) -> HighlightRow:
    return HighlightRow.model_validate(found | {"clip_path": clip_path})


def stream_row(found: dict[str, Any]) -> StreamRow:
    progress = found.get("progress") or {}
    return StreamRow(
        id=found["id"],
        status=found["status"],
        coverage_pct=progress.get("coverage_pct") or 0.0,
        duration_s=progress.get("processed_duration") or 0.0,
    )
