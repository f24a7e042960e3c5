"""A stream and its endpoints as they are first written, and the events that announce them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gateway.domain.endpoint import MAX_ATTEMPTS
from gateway.domain.events_feed import PublicEventType
from gateway.domain.reachability import NOT_CHECKED, SourceCheck
from gateway.domain.source import SourceKind
from shared.events import EndpointChanged, Lane, Source, StreamOffline, StreamOnline
from shared.ids import ConnectionId, EndpointId, OrganizationId, StreamId, event_id

MAX_EXTERNAL_ID = 600
UNKNOWN_GAME = "Unknown"
# Who follows the source gives it up first, and can say what was wrong with it; our deadline knows only of silence.
BEFORE_DEADLINE = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class NewStream:
    """One row of `streams`, before anything has happened to it."""

    stream_id: StreamId
    organization_id: OrganizationId
    lane: Lane
    platform: str
    sealed_source_url: str
    display_url: str
    sealed_headers: str | None
    title: str | None
    options: dict[str, Any]
    metadata: dict[str, Any]
    profile_key: str
    created_at: datetime
    deadline_at: datetime
    connection_id: ConnectionId | None = None
    external_id: str | None = None
    source_started_at: datetime | None = None
    source_kind: SourceKind = SourceKind.HLS
    source_check: SourceCheck = NOT_CHECKED
    channel_name: str = ""
    game_name: str = ""


@dataclass(frozen=True, kw_only=True)
class StreamPlace:
    """What must be known of a stream to end it."""

    stream_id: StreamId
    organization_id: OrganizationId
    run: int
    lane: Lane
    status: str
    stop_requested_at: datetime | None
    platform: str = "custom"


@dataclass(frozen=True, kw_only=True)
class NewEndpoint:
    """One row of `endpoints`. Without a stream it hears of all streams of the organization."""

    endpoint_id: EndpointId
    organization_id: OrganizationId
    sealed_url: str
    display_url: str
    sealed_secrets: tuple[str, ...]
    event_types: tuple[PublicEventType, ...]
    created_at: datetime
    description: str = ""
    stream_id: StreamId | None = None
    version: int = 1
    active: bool = True
    max_attempts: int = field(default=MAX_ATTEMPTS)


def stream_online(stream: NewStream, *, run: int = 0) -> StreamOnline:
    return StreamOnline(
        event_id=event_id(stream.stream_id, StreamOnline.name, run),
        organization_id=stream.organization_id,
        occurred_at=stream.created_at,
        lane=stream.lane,
        stream_id=stream.stream_id,
        run=run,
        source=Source(
            kind=stream.source_kind.value,
            sealed_url=stream.sealed_source_url,
            sealed_headers=stream.sealed_headers,
            display_url=stream.display_url,
            began_at=stream.source_started_at,
            awaited_until=_awaited_until(stream),
        ),
        profile_key=stream.profile_key,
        external_id=stream.external_id,
        platform=stream.platform,
        channel_name=stream.channel_name,
        game_name=stream.game_name or UNKNOWN_GAME,
        started_at=stream.source_started_at,
    )


def _awaited_until(stream: NewStream) -> datetime | None:
    """A customer may submit a live stream before it begins; a recording, or what 100ms says is live, is there."""
    if stream.lane is not Lane.LIVE or stream.connection_id is not None:
        return None
    return stream.deadline_at - BEFORE_DEADLINE


def stream_offline(place: StreamPlace, *, reason: str, at: datetime) -> StreamOffline:
    """The same event, whoever asks for the end of a run, and however often."""
    return StreamOffline(
        event_id=event_id(place.stream_id, StreamOffline.name, place.run),
        organization_id=place.organization_id,
        occurred_at=at,
        lane=place.lane,
        stream_id=place.stream_id,
        run=place.run,
        reason=reason,
        platform=place.platform,
    )


def endpoint_changed(endpoint: NewEndpoint, *, at: datetime) -> EndpointChanged:
    return EndpointChanged(
        event_id=event_id(endpoint.endpoint_id, EndpointChanged.name, endpoint.version),
        organization_id=endpoint.organization_id,
        occurred_at=at,
        endpoint_id=endpoint.endpoint_id,
        version=endpoint.version,
        active=endpoint.active,
        sealed_url=endpoint.sealed_url,
        sealed_secrets=endpoint.sealed_secrets,
        max_attempts=endpoint.max_attempts,
    )
