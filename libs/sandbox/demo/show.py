"""The demo itself: set up the customer, put the stream on air, watch, wait for its end, report."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from sandbox.demo.customer import Customer
from sandbox.demo.observer import Observer
from sandbox.demo.options import Options
from sandbox.demo.report import (
    Latency,
    Report,
    analysis_rows,
    delivery_delays_s,
    highlight_row,
    p50_s,
    stream_row,
    webhook_rows,
)
from sandbox.demo.screen import Progress, render
from sandbox.hundredms import Beam, HundredMs
from sandbox.origin import HlsOrigin
from sandbox.receiver import Received, WebhookReceiver

SECRET_HEADER = "X-100ms-Secret"
TERMINAL = ("completed", "error", "cancelled")
REFRESH_S = 0.5
PATIENCE_S = 180.0
LAST_WEBHOOK_PATIENCE_S = 30.0
LATEST_LINES = 6


class DemoFailed(Exception):
    """The demo could not go on; the message says at what."""


@dataclass
class Show:
    """What one run of the demo works with; the two URLs are those by which the product reaches us."""

    options: Options
    origin: HlsOrigin
    receiver: WebhookReceiver
    customer: Customer
    observer: Observer
    stream_url: str
    webhook_url: str
    posted_at: datetime | None = None
    latest: deque[str] = field(default_factory=lambda: deque(maxlen=LATEST_LINES))
    stream: dict[str, Any] = field(default_factory=dict)

    async def run(self, console: Console) -> Report:
        """Raises DemoFailed when the stream reaches no terminal state in time."""
        sender = await self._set_up()
        async with sender:
            beam = Beam(stream_url=self.stream_url, started_at=datetime.now(UTC))
            self.origin.go_live()
            self.posted_at = datetime.now(UTC)
            await self._post(sender, "hls.started.success", beam)
            with Live(render(self._progress()), console=console, refresh_per_second=4) as live:
                stopped = asyncio.create_task(self._stop_at_end(sender, beam))
                async with asyncio.timeout(self._patience_s()):
                    await self._watch(live)
                await stopped
        await self._last_webhook()
        return await self._report()

    async def _set_up(self) -> HundredMs:
        await self.customer.register(
            email=f"demo-{secrets.token_hex(4)}@example.com",
            password=secrets.token_urlsafe(18),
            company_name="Demo Sports",
        )
        self.receiver.secrets[:] = [await self.customer.add_webhook(self.webhook_url)]
        secret = secrets.token_urlsafe(24)
        url = await self.customer.connect_100ms(secret=secret, secret_header=SECRET_HEADER)
        return HundredMs(url, secret=secret, secret_header=SECRET_HEADER)

    async def _post(self, sender: HundredMs, event_type: str, beam: Beam) -> None:
        delivery = await sender.send(event_type, beam=beam)
        if not delivery.delivered:
            raise DemoFailed(f"the gateway did not take {event_type}: {delivery.attempts}")
        self.latest.append(f"100ms posted {event_type}")

    async def _stop_at_end(self, sender: HundredMs, beam: Beam) -> None:
        await self.origin.ended.wait()
        await self._post(sender, "hls.stopped.success", beam)

    async def _watch(self, live: Live) -> None:
        shown: set[str] = set()
        while self.stream.get("status") not in TERMINAL:
            await asyncio.sleep(REFRESH_S)
            self.stream = await self._read_stream()
            for one in self.receiver.distinct():
                if one.id not in shown:
                    shown.add(one.id)
                    self.latest.append(_line(one))
            live.update(render(self._progress()))

    async def _read_stream(self) -> dict[str, Any]:
        if "id" in self.stream:
            return await self.customer.stream(self.stream["id"])
        found = await self.customer.streams()
        return found[0] if found else {}

    async def _last_webhook(self) -> None:
        await self.receiver.wait_for(
            lambda one: one.type == f"stream.{self._last_event()}", timeout_s=LAST_WEBHOOK_PATIENCE_S
        )

    def _last_event(self) -> str:
        return str(self.stream["status"])

    def _patience_s(self) -> float:
        return self._length_s() / self.options.speed + PATIENCE_S

    def _length_s(self) -> float:
        return self.origin.window.length_s

    def _progress(self) -> Progress:
        counts = self.observer.counts
        received = self.receiver.distinct()
        return Progress(
            stream=self.stream,
            live_s=min(self.origin.elapsed_s * self.options.speed, self._length_s()),
            length_s=self._length_s(),
            segments=len(self.observer.segments),
            windows=counts["segment.ready"],
            analyzed=counts["segment.analyzed"],
            confirmed=counts["highlight.confirmed"],
            clips=counts["clip.ready"],
            webhooks=len(received),
            verified=sum(one.verified for one in received),
            latest=tuple(self.latest),
        )

    async def _report(self) -> Report:
        found = await self.customer.highlights(self.stream["id"])
        folder = self.options.output / self.stream["id"]
        folder.mkdir(parents=True, exist_ok=True)
        rows = [highlight_row(each, clip_path=await self._save(each, folder)) for each in found]
        received = self.receiver.distinct()
        return Report(
            stream=stream_row(self.stream),
            highlights=tuple(rows),
            webhooks=webhook_rows(received),
            analysis=analysis_rows(self.observer.verdicts),
            latency_s=Latency(
                webhook_to_first_segment=self._first_segment_s(),
                segment_to_analyzed_p50=p50_s(self.observer.delays_s("segment.ready", "segment.analyzed")),
                confirmed_to_clip_p50=p50_s(self.observer.delays_s("highlight.confirmed", "clip.ready")),
                event_to_webhook_p50=p50_s(delivery_delays_s(received)),
            ),
        )

    async def _save(self, highlight: dict[str, Any], folder: Path) -> str | None:
        if not highlight["video_url"]:
            return None
        path = folder / f"{highlight['id']}.mp4"
        await self.customer.fetch(highlight["video_url"], path)
        if highlight["thumbnail_url"]:
            await self.customer.fetch(highlight["thumbnail_url"], path.with_suffix(".jpg"))
        return str(path.resolve())

    def _first_segment_s(self) -> float | None:
        fetched = [one.at for one in self.origin.requests if one.path.endswith(".ts") and one.status == 200]
        if not fetched or self.posted_at is None:
            return None
        return round((min(fetched) - self.posted_at).total_seconds(), 3)


def _line(one: Received) -> str:
    title = one.payload.get("data", {}).get("title") or ""
    verdict = "verified" if one.verified else "NOT VERIFIED"
    return f"webhook {one.type} {verdict} {title}".rstrip()


@asynccontextmanager
async def outside_world(
    options: Options, *, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[HlsOrigin, WebhookReceiver]]:
    """The stream's origin, not yet on air, and the customer's webhook receiver, both on this address of ours."""
    async with (
        HlsOrigin(
            options.media, speed=options.speed, duration_s=options.seconds, initial_segments=1, host=host
        ) as origin,
        WebhookReceiver(host=host) as receiver,
    ):
        yield origin, receiver
