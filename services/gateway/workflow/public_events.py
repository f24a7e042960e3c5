"""Mints public events: takes a number of the stream, writes the row, and asks the notifier for deliveries.

All of it happens in the caller's transaction, under the lock on the stream's row. What an event looks like
stands in `domain/events_feed.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from gateway.domain.events_feed import PublicEventType, body_of, envelope, wants
from gateway.domain.public_views import (
    ClipRecord,
    HighlightRecord,
    PublicHighlight,
    clip_keys,
    custom_tags_of,
    public_highlight,
)
from gateway.domain.stream_status import StreamRecord
from shared.clock import Clock
from shared.events import Event, Lane, NotificationRequested
from shared.ids import (
    DeliveryId,
    EndpointId,
    HighlightId,
    OrganizationId,
    PublicEventId,
    delivery_id,
    event_id,
    public_event_id,
)

WEBHOOK_URL_EXPIRES_S = 7 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class EndpointRecord:
    """An active endpoint that may be told of a stream; no types named means all but the opt-in ones.

    `last_delivery` is what it was last told of this stream: the order of first attempts hangs on it.
    """

    endpoint_id: EndpointId
    version: int
    event_types: tuple[str, ...]
    last_delivery: DeliveryId | None = None


@dataclass(frozen=True, kw_only=True)
class NewPublicEvent:
    """A row of the feed. `body` holds the exact characters that are sent."""

    public_event_id: PublicEventId
    sequence: int
    type: str
    body: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class NewDelivery:
    delivery_id: DeliveryId
    endpoint_id: EndpointId
    public_event_id: PublicEventId


class Feed(Protocol):
    """The rows of one tenant's public events, in the caller's transaction."""

    async def add_public_event(
        self, stream: StreamRecord, event: NewPublicEvent
    ) -> tuple[EndpointRecord, ...] | None:
        """Add the event, take its number from the stream, and answer the active endpoints for the stream.

        None: an event of this id is there already, and nothing was changed.
        """
        ...

    async def add_deliveries(self, stream: StreamRecord, deliveries: Sequence[NewDelivery]) -> None: ...


class Unit(Protocol):
    """The outbox of the caller's transaction."""

    async def emit(self, *events: Event) -> None: ...


class Links(Protocol):
    """Turns object keys into addresses; an object store does."""

    async def signed_url(self, key: str, *, expires_s: int) -> str: ...


class PlaybackLinks(Protocol):
    """Turns highlights into addresses of their playlists."""

    def playback_url(
        self, organization_id: OrganizationId, highlight_id: HighlightId, *, expires_s: int
    ) -> str: ...


async def highlight_view(
    stream: StreamRecord,
    highlight: HighlightRecord,
    clips: Sequence[ClipRecord],
    *,
    links: Links,
    playback: PlaybackLinks,
    expires_s: int,
) -> PublicHighlight:
    """The highlight as customers see it, with addresses that open for `expires_s` seconds."""
    urls = {key: await links.signed_url(key, expires_s=expires_s) for key in clip_keys(highlight, clips)}
    return public_highlight(
        highlight,
        clips=clips,
        custom_tags=custom_tags_of(stream),
        metadata=stream.metadata,
        url_of=urls.__getitem__,
        playback_url=playback.playback_url(
            stream.organization_id, highlight.highlight_id, expires_s=expires_s
        ),
    )


class PublicEvents:
    """Mints each public event once, however often it is asked for."""

    def __init__(self, *, links: Links, playback: PlaybackLinks, clock: Clock) -> None:
        self.links = links
        self.playback = playback
        self._clock = clock

    async def mint(
        self,
        stream: StreamRecord,
        kind: PublicEventType,
        *,
        parts: Sequence[str | int],
        content: Mapping[str, Any],
        feed: Feed,
        unit: Unit,
    ) -> StreamRecord:
        """The stream with the number that comes next; unchanged where the event had been minted before.

        `parts` tell the event apart from others of its kind in the stream; `content` becomes its `data`.
        """
        event = self._event(stream, kind, parts=parts, content=content)
        endpoints = await feed.add_public_event(stream, event)
        if endpoints is None:
            return stream
        wanted = [endpoint for endpoint in endpoints if wants(endpoint.event_types, kind)]
        if wanted:
            await feed.add_deliveries(stream, [_delivery(event, endpoint) for endpoint in wanted])
            await unit.emit(*(_request(stream, event, endpoint) for endpoint in wanted))
        return replace(stream, next_sequence=stream.next_sequence + 1)

    def _event(
        self,
        stream: StreamRecord,
        kind: PublicEventType,
        *,
        parts: Sequence[str | int],
        content: Mapping[str, Any],
    ) -> NewPublicEvent:
        now = self._clock()
        identifier = public_event_id(stream.stream_id, kind, *parts)
        public = envelope(
            event_id=identifier,
            kind=kind,
            created_at=now,
            sequence=stream.next_sequence,
            stream_id=stream.stream_id,
            content=content,
        )
        return NewPublicEvent(
            public_event_id=identifier,
            sequence=stream.next_sequence,
            type=kind,
            body=body_of(public),
            created_at=now,
        )


def _delivery(event: NewPublicEvent, endpoint: EndpointRecord) -> NewDelivery:
    return NewDelivery(
        delivery_id=delivery_id(endpoint.endpoint_id, event.public_event_id),
        endpoint_id=endpoint.endpoint_id,
        public_event_id=event.public_event_id,
    )


def _request(stream: StreamRecord, event: NewPublicEvent, endpoint: EndpointRecord) -> NotificationRequested:
    delivery = delivery_id(endpoint.endpoint_id, event.public_event_id)
    return NotificationRequested(
        event_id=event_id(stream.stream_id, NotificationRequested.name, delivery),
        organization_id=stream.organization_id,
        stream_id=stream.stream_id,
        occurred_at=event.created_at,
        lane=Lane(stream.lane),
        delivery_id=delivery,
        endpoint_id=endpoint.endpoint_id,
        endpoint_version=endpoint.version,
        public_event_id=event.public_event_id,
        type=event.type,
        sequence=event.sequence,
        body=event.body,
        follows=endpoint.last_delivery,
    )
