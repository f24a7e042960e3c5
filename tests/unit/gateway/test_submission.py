"""What `stream.online` tells of a source that may not be there yet."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.domain.submission import BEFORE_DEADLINE, NewStream, StreamPlace, stream_offline, stream_online
from shared.events import Lane
from shared.ids import ConnectionId
from tests.builders import ORGANIZATION, STREAM

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
SUBMITTED = NewStream(
    stream_id=STREAM,
    organization_id=ORGANIZATION,
    lane=Lane.LIVE,
    platform="custom",
    sealed_source_url="sealed",
    display_url="https://cdn.example.com/live.m3u8",
    sealed_headers=None,
    title=None,
    options={},
    metadata={},
    profile_key="profiles/0.json",
    created_at=NOW,
    deadline_at=NOW + timedelta(seconds=900),
)


def test_a_live_stream_of_a_customer_is_awaited_until_shortly_before_its_deadline() -> None:
    event = stream_online(SUBMITTED)
    assert NOW + timedelta(seconds=900) - BEFORE_DEADLINE == event.source.awaited_until


def test_what_100ms_says_is_live_and_a_recording_are_not_awaited() -> None:
    told = replace(SUBMITTED, connection_id=ConnectionId("con_1"))
    recording = replace(SUBMITTED, lane=Lane.VOD)
    assert [None, None] == [stream_online(each).source.awaited_until for each in (told, recording)]


def test_an_offline_names_stream_organization_and_platform() -> None:
    place = StreamPlace(
        stream_id=STREAM,
        organization_id=ORGANIZATION,
        run=2,
        lane=Lane.LIVE,
        status="processing",
        stop_requested_at=None,
        platform="twitch",
    )
    event = stream_offline(place, reason="stopped", at=NOW)
    assert (STREAM, ORGANIZATION, "twitch", 2) == (
        event.stream_id,
        event.organization_id,
        event.platform,
        event.run,
    )
