"""The public events: their types, who gets them, when a highlight is announced, and the exact characters sent.

One row serves webhook, SSE and `GET /v1/events`; its body is serialized once, here, and never again.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from gateway.domain.public_views import ClipRecord, HighlightRecord, PublicEvent, shown_clip
from gateway.domain.stream_status import StreamStatus
from shared.ids import HighlightId, PublicEventId, StreamId, public_event_id


class PublicEventType(StrEnum):
    """What customers are told. `highlight.detected` comes at confirmation, `.created` with the clip."""

    STREAM_STARTED = "stream.started"
    HIGHLIGHT_DETECTED = "highlight.detected"
    HIGHLIGHT_CREATED = "highlight.created"
    HIGHLIGHT_UPDATED = "highlight.updated"
    HIGHLIGHT_RETRACTED = "highlight.retracted"
    STREAM_UPDATED = "stream.updated"
    STREAM_COMPLETED = "stream.completed"
    STREAM_ERROR = "stream.error"
    STREAM_CANCELLED = "stream.cancelled"


OPT_IN = frozenset({PublicEventType.HIGHLIGHT_DETECTED})
TERMINAL_TYPES: Mapping[StreamStatus, PublicEventType] = MappingProxyType(
    {
        StreamStatus.COMPLETED: PublicEventType.STREAM_COMPLETED,
        StreamStatus.ERROR: PublicEventType.STREAM_ERROR,
        StreamStatus.CANCELLED: PublicEventType.STREAM_CANCELLED,
    }
)


def wants(event_types: Collection[str], kind: PublicEventType) -> bool:
    """Whether an endpoint with these types gets the event; none named means all but the opt-in ones."""
    return kind in event_types if event_types else kind not in OPT_IN


def envelope(
    *,
    event_id: PublicEventId,
    kind: PublicEventType,
    created_at: datetime,
    sequence: int,
    stream_id: StreamId,
    content: Mapping[str, Any],
) -> PublicEvent:
    """The event as customers see it; `content` is a public stream or highlight in JSON types."""
    return PublicEvent(
        id=event_id,
        type=kind,
        created=created_at,
        sequence=sequence,
        stream_id=stream_id,
        data=dict(content),
    )


def body_of(event: PublicEvent) -> str:
    """The exact characters that are stored, signed and sent."""
    return json.dumps(event.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"))


# -- announcing a highlight --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HighlightState:
    """A highlight, its clips in any number, and the newest revision that customers were told of."""

    highlight: HighlightRecord | None = None
    clips: tuple[ClipRecord, ...] = ()
    announced: int | None = None


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """An event that is due, and what tells it apart from others of its type."""

    kind: PublicEventType
    parts: tuple[str | int, ...]


def due_announcement(state: HighlightState) -> Announcement | None:
    """What customers are to be told of a highlight now; None while its clip is under way, or all is told.

    A revision is due when its own clip is ready, or failed while an older clip can still be shown.
    """
    highlight = state.highlight
    if highlight is None:
        return None
    if highlight.retracted:
        return _retraction(highlight.highlight_id, state.announced)
    settled = any(clip.revision == highlight.revision for clip in state.clips)
    if not settled or shown_clip(highlight, state.clips) is None:
        return None
    if state.announced is None:
        return Announcement(kind=PublicEventType.HIGHLIGHT_CREATED, parts=(highlight.highlight_id,))
    if state.announced < highlight.revision:
        parts = (highlight.highlight_id, highlight.revision)
        return Announcement(kind=PublicEventType.HIGHLIGHT_UPDATED, parts=parts)
    return None


def _retraction(highlight_id: HighlightId, announced: int | None) -> Announcement | None:
    """Whoever was told of a highlight is told that it is gone; nobody else is."""
    if announced is None:
        return None
    return Announcement(kind=PublicEventType.HIGHLIGHT_RETRACTED, parts=(highlight_id,))


def announcement_ids(
    stream_id: StreamId, highlight_id: HighlightId, *, up_to_revision: int
) -> tuple[PublicEventId, ...]:
    """Ids of all events that can have told customers of the highlight, up to a revision."""
    created = public_event_id(stream_id, PublicEventType.HIGHLIGHT_CREATED, highlight_id)
    updates = (
        public_event_id(stream_id, PublicEventType.HIGHLIGHT_UPDATED, highlight_id, revision)
        for revision in range(1, up_to_revision + 1)
    )
    return (created, *updates)
