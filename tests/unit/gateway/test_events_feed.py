import json
from dataclasses import replace

import pytest

from gateway.domain.events_feed import (
    Announcement,
    HighlightState,
    PublicEventType,
    body_of,
    due_announcement,
    envelope,
    wants,
)
from gateway.domain.public_views import ClipRecord, HighlightRecord
from shared.ids import HighlightId, public_event_id
from tests.builders import NOW, STREAM

GOAL = HighlightId("hl_goal")
HIGHLIGHT = HighlightRecord(
    highlight_id=GOAL,
    stream_id=STREAM,
    revision=0,
    start_us=0,
    end_us=10,
    peak_us=5,
    score=0.8,
    confidence=0.7,
    type="goal",
    title="Goal",
    created_at=NOW,
)
REVISED = replace(HIGHLIGHT, revision=1)
CREATED = Announcement(kind=PublicEventType.HIGHLIGHT_CREATED, parts=(GOAL,))
UPDATED = Announcement(kind=PublicEventType.HIGHLIGHT_UPDATED, parts=(GOAL, 1))
RETRACTED = Announcement(kind=PublicEventType.HIGHLIGHT_RETRACTED, parts=(GOAL,))


def clip(revision: int, *, ready: bool = True) -> ClipRecord:
    return ClipRecord(highlight_id=GOAL, revision=revision, ready=ready, video_key="clip.mp4")


@pytest.mark.parametrize(
    ("highlight", "clips", "announced", "due"),
    [
        (None, (clip(0),), None, None),
        (HIGHLIGHT, (), None, None),
        (HIGHLIGHT, (clip(0),), None, CREATED),
        (HIGHLIGHT, (clip(0),), 0, None),
        (HIGHLIGHT, (clip(0, ready=False),), None, None),
        (HIGHLIGHT, (clip(1),), None, None),
        (REVISED, (clip(0),), None, None),
        (REVISED, (clip(1),), None, CREATED),
        (REVISED, (clip(0), clip(1)), 0, UPDATED),
        (REVISED, (clip(0), clip(1)), 1, None),
        (REVISED, (clip(0), clip(1, ready=False)), None, CREATED),
        (replace(HIGHLIGHT, retracted=True), (clip(0),), None, None),
        (replace(HIGHLIGHT, retracted=True), (clip(0),), 0, RETRACTED),
    ],
    ids=[
        "a clip without its highlight waits",
        "a highlight without its clip waits",
        "both together are announced",
        "and only once",
        "a failed clip is not announced",
        "a clip ahead of its highlight waits",
        "a clip behind its highlight waits",
        "the newest revision may be the first that is told",
        "a later revision is an update",
        "and only once",
        "an older clip serves where the newer one failed",
        "what was taken back unseen stays untold",
        "what was told is taken back",
    ],
)
def test_a_highlight_is_announced_when_it_can_be_seen(
    highlight: HighlightRecord | None,
    clips: tuple[ClipRecord, ...],
    announced: int | None,
    due: Announcement | None,
) -> None:
    state = HighlightState(highlight=highlight, clips=clips, announced=announced)

    assert due_announcement(state) == due


def test_an_endpoint_without_types_gets_all_but_the_opt_in_ones() -> None:
    assert {kind for kind in PublicEventType if not wants((), kind)} == {PublicEventType.HIGHLIGHT_DETECTED}


def test_an_endpoint_with_types_gets_exactly_these() -> None:
    wanted = ("highlight.detected", "stream.error")

    assert [kind.value for kind in PublicEventType if wants(wanted, kind)] == list(wanted)


def test_the_body_is_compact_readable_and_in_a_fixed_order() -> None:
    event = envelope(
        event_id=public_event_id(STREAM, "stream.started", 0),
        kind=PublicEventType.STREAM_STARTED,
        created_at=NOW,
        sequence=3,
        stream_id=STREAM,
        content={"title": "Für Élise", "score": 0.5},
    )

    body = body_of(event)

    assert body == (
        f'{{"id":"{event.id}","type":"stream.started","created":"2026-11-20T12:00:00Z","sequence":3,'
        f'"stream_id":"{STREAM}","data":{{"title":"Für Élise","score":0.5}}}}'
    )
    assert json.loads(body)["data"]["title"] == "Für Élise"
