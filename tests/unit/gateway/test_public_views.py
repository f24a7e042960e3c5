from dataclasses import replace
from typing import Any

from gateway.domain.completion import ParkedFact, RunFacts
from gateway.domain.coverage import Span
from gateway.domain.public_views import (
    ClipRecord,
    HighlightRecord,
    PublicHighlight,
    clip_keys,
    public_highlight,
    public_progress,
    public_stream,
)
from gateway.domain.stream_status import Ended, Selection, StreamRecord, StreamStatus
from shared.ids import HighlightId
from tests.builders import NOW, ORGANIZATION, STREAM

GOAL = HighlightId("hl_goal")
STREAM_RECORD = StreamRecord(
    stream_id=STREAM,
    organization_id=ORGANIZATION,
    platform="100ms",
    display_url="https://example.com/live.m3u8",
    title="Final",
    options={"custom_tags": ["cup"]},
    metadata={"match": 7},
    status=StreamStatus.PROCESSING,
    created_at=NOW,
    updated_at=NOW,
    started_at=NOW,
    deadline_at=NOW,
    offered_us=40_000_000,
    media_duration_us=40_000_000,
)
HIGHLIGHT = HighlightRecord(
    highlight_id=GOAL,
    stream_id=STREAM,
    revision=1,
    start_us=2_500_000,
    end_us=12_500_000,
    peak_us=6_000_000,
    score=0.8,
    confidence=0.7,
    scores={"action": 0.8},
    type="goal",
    title="Goal",
    tags=("goal", "cup"),
    created_at=NOW,
)


def clip(revision: int, **changes: Any) -> ClipRecord:
    ready = ClipRecord(
        highlight_id=GOAL,
        revision=revision,
        ready=True,
        video_key=f"r{revision}/clip.mp4",
        thumbnail_key=f"r{revision}/thumbnail.jpg",
        duration_us=10_040_000,
    )
    return replace(ready, **changes)


def failed(revision: int, reason: str) -> ClipRecord:
    return ClipRecord(highlight_id=GOAL, revision=revision, ready=False, code="cut_failed", reason=reason)


def shown(*clips: ClipRecord) -> PublicHighlight:
    return public_highlight(
        HIGHLIGHT,
        clips=clips,
        custom_tags=("cup", "vip"),
        metadata={"match": 7},
        url_of="https://cdn.example.com/{}".format,
        playback_url="https://api.example.com/playlist.m3u8",
    )


def test_a_highlight_without_a_clip_is_pending_and_has_no_address() -> None:
    view = shown()

    assert (view.clip_status, view.video_url, view.thumbnail_url, view.duration) == (
        "pending",
        None,
        None,
        10.0,
    )


def test_a_ready_clip_brings_addresses_and_its_own_length() -> None:
    view = shown(clip(1))

    assert (view.clip_status, view.video_url, view.thumbnail_url, view.duration) == (
        "ready",
        "https://cdn.example.com/r1/clip.mp4",
        "https://cdn.example.com/r1/thumbnail.jpg",
        10.04,
    )


def test_the_newest_ready_clip_is_shown_while_the_next_one_is_cut() -> None:
    assert shown(clip(0)).video_url == "https://cdn.example.com/r0/clip.mp4"


def test_a_clip_ahead_of_its_highlight_waits() -> None:
    assert shown(clip(2)).clip_status == "pending"


def test_a_failed_clip_says_why() -> None:
    view = shown(failed(1, "cut: no key frame"))

    assert (view.clip_status, view.clip_error) == ("failed", "cut: no key frame")


def test_an_older_clip_outlasts_the_failure_of_a_newer_one() -> None:
    view = shown(clip(0), failed(1, "cut: no key frame"))

    assert (view.clip_status, view.clip_error, view.video_url) == (
        "ready",
        None,
        "https://cdn.example.com/r0/clip.mp4",
    )


def test_addresses_are_asked_for_the_shown_keys_only() -> None:
    assert clip_keys(HIGHLIGHT, [clip(0), clip(1)]) == ("r1/clip.mp4", "r1/thumbnail.jpg")


def test_times_are_seconds_from_the_start_of_the_stream() -> None:
    view = shown()

    assert (view.timestamp, view.start_s, view.end_s, view.peak_s) == (2.5, 2.5, 12.5, 6.0)


def test_the_customers_tags_follow_each_once() -> None:
    assert shown().tags == ["goal", "cup", "vip"]


def test_a_stream_is_shown_with_both_of_its_names() -> None:
    view = public_stream(STREAM_RECORD, RunFacts())

    assert (view.id, view.job_id, view.status, view.source_url, view.metadata) == (
        STREAM,
        STREAM,
        "processing",
        "https://example.com/live.m3u8",
        {"match": 7},
    )


def test_progress_counts_overlapping_windows_once() -> None:
    facts = RunFacts(
        windows_analysed=2,
        windows_skipped=1,
        analysed=(Span(0, 15_000_000), Span(10_000_000, 20_000_000), Span(20_000_000, 30_000_000)),
        highlights={GOAL: 0, HighlightId("hl_gone"): 1},
        retracted=frozenset({HighlightId("hl_gone")}),
        degraded=True,
    )

    assert public_progress(STREAM_RECORD, facts).model_dump() == {
        "processed_duration": 30.0,
        "offered_duration": 40.0,
        "coverage_pct": 75.0,
        "windows_analyzed": 2,
        "windows_failed": 0,
        "windows_skipped": 1,
        "highlights_found": 1,
        "gaps": 0,
        "stalled": False,
        "degraded": True,
    }


def test_windows_without_a_verdict_are_failed_once_the_selection_is_closed() -> None:
    stream = replace(STREAM_RECORD, selection=Selection(final=(), windows_failed=2))

    assert public_progress(stream, RunFacts()).windows_failed == 2


def test_coverage_is_measured_against_what_ingest_told_at_the_end() -> None:
    stream = replace(STREAM_RECORD, ended=Ended(cause="endlist", offered_us=60_000_000, segments=1))

    assert public_progress(stream, RunFacts(analysed=(Span(0, 30_000_000),))).coverage_pct == 50.0


def test_an_ended_stream_is_not_stalled() -> None:
    stream = replace(STREAM_RECORD, ended=Ended(cause="source_dead"))

    assert [public_progress(s, RunFacts(stalled=True)).stalled for s in (STREAM_RECORD, stream)] == [
        True,
        False,
    ]


def test_a_running_stream_tells_at_once_what_was_given_up() -> None:
    facts = RunFacts(parked=(ParkedFact(service="selector", event_name="segment.ready", reason="broken"),))

    assert public_stream(STREAM_RECORD, facts).error == "selector gave up one segment.ready: broken"


def test_a_finished_stream_keeps_the_words_it_was_finished_with() -> None:
    facts = RunFacts(parked=(ParkedFact(service="selector", event_name="segment.ready", reason="broken"),))
    stream = replace(STREAM_RECORD, status=StreamStatus.COMPLETED, error="The end.")

    assert public_stream(stream, facts).error == "The end."
