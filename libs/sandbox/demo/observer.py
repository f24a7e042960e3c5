"""A third-party consumer of the documented exchange: counts events and keeps when they happened, for the demo."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustConnection

from shared.contract import PUBLIC_EXCHANGE, spec_of
from shared.events import ClipReady, Event, HighlightConfirmed, SegmentAnalyzed, SegmentReady

WATCHED = (
    "segment.ready",
    "segment.missed",
    "segment.analyzed",
    "highlight.confirmed",
    "clip.ready",
    "clip.failed",
)


@dataclass
class Observer:
    """Binds an exclusive queue of its own; nothing that it does can hold up the services."""

    url: str
    counts: Counter[str] = field(default_factory=Counter)
    segments: set[str] = field(default_factory=set)
    verdicts: list[SegmentAnalyzed] = field(default_factory=list)
    _at: dict[tuple[str, str], datetime] = field(default_factory=dict)
    _connection: AbstractRobustConnection | None = None

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect_robust(self.url)
        channel = await self._connection.channel()
        exchange = await channel.get_exchange(PUBLIC_EXCHANGE, ensure=False)
        queue = await channel.declare_queue(exclusive=True)
        for name in WATCHED:
            await queue.bind(exchange, f"{name}.*")
        await queue.consume(self._on_message, no_ack=True)
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        name = message.type or ""
        self.note(spec_of(name).model.model_validate_json(message.body))

    def note(self, event: Event) -> None:
        """Take one event in; a second delivery of it changes nothing."""
        key = (event.name, _subject(event))
        if key in self._at:
            return
        self._at[key] = event.occurred_at
        self.counts[event.name] += 1
        if isinstance(event, SegmentReady):
            self.segments.update(ref.key for ref in event.segments)
        elif isinstance(event, SegmentAnalyzed):
            self.verdicts.append(event)

    def delays_s(self, earlier: str, later: str) -> tuple[float, ...]:
        """Seconds from each `earlier` event to the `later` event on the same subject."""
        return tuple(
            (self._at[later, subject] - at).total_seconds()
            for (name, subject), at in self._at.items()
            if name == earlier and (later, subject) in self._at
        )


def _subject(event: Event) -> str:
    match event:
        case SegmentReady() | SegmentAnalyzed():
            return f"{event.stream_id}:{event.position}"
        case HighlightConfirmed() | ClipReady():
            return f"{event.highlight_id}:{event.revision}"
        case _:
            return str(event.event_id)
