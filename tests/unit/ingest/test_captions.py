"""Where captions lie in media time, and that each is told once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ingest.domain.captions import LOOK_AHEAD_US, CaptionPart, CaptionTracker
from ingest.domain.playlist import Location, MediaPlaylist, Segment
from ingest.domain.timeline import Timeline
from ingest.domain.webvtt import CaptionCue, CaptionFile

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = 1_000_000
# A minute of media is there; its clock began at 10 s, its wall clock at noon.
TIMELINE = Timeline(
    position_us=60 * SECOND,
    segment_count=30,
    wall_at=NOON,
    wall_position_us=0,
    expected_pts_us=70 * SECOND,
)


def part(sequence: int = 0, *, at_us: int = 58 * SECOND, wall_at: datetime | None = None) -> CaptionPart:
    location = Location(url=f"https://cdn.example/{sequence}.vtt")
    segment = Segment(sequence=sequence, location=location, duration_us=2 * SECOND, wall_at=wall_at)
    return CaptionPart(segment=segment, at_us=at_us)


def file(*cues: tuple[float, float, str], clock_us: int | None = None) -> CaptionFile:
    read = tuple(
        CaptionCue(start_us=round(start * SECOND), end_us=round(end * SECOND), text=text)
        for start, end, text in cues
    )
    return CaptionFile(cues=read, clock_us=clock_us)


def listing(first: int, last: int, *, ended: bool = False) -> MediaPlaylist:
    segments = tuple(part(n).segment for n in range(first, last + 1))
    return MediaPlaylist(
        url="https://cdn.example/c.m3u8",
        target_us=2 * SECOND,
        media_sequence=first,
        listed_count=len(segments),
        segments=segments,
        ended=ended,
    )


def places(signals: tuple) -> list[tuple[float, str]]:  # type: ignore[type-arg]
    return [(signal.at_us / SECOND, signal.text) for signal in signals]


def test_the_medias_clock_decides_where_it_is_told() -> None:
    signals = CaptionTracker().signals(
        part(), file((58, 59, "goal"), clock_us=10 * SECOND), timeline=TIMELINE
    )
    assert [(58.0, "goal")] == places(signals)
    assert (NOON + timedelta(seconds=58), SECOND, "caption") == (
        signals[0].wall_at,
        signals[0].duration_us,
        signals[0].kind,
    )


def test_after_a_gap_the_last_known_clock_still_counts() -> None:
    tracker = CaptionTracker()
    tracker.signals(part(), file((58, 59, "a"), clock_us=10 * SECOND), timeline=TIMELINE)
    later = replace(TIMELINE, position_us=64 * SECOND, expected_pts_us=None)
    assert [(63.0, "b")] == places(
        tracker.signals(part(1), file((63, 64, "b"), clock_us=10 * SECOND), timeline=later)
    )


def test_a_clock_that_cannot_be_the_medias_gives_way_to_the_date() -> None:
    dated = part(wall_at=NOON + timedelta(seconds=40))
    signals = CaptionTracker().signals(dated, file((0.5, 1, "x"), clock_us=9_000 * SECOND), timeline=TIMELINE)
    assert [(40.5, "x")] == places(signals)


def test_without_clock_and_date_the_place_in_the_list_counts() -> None:
    signals = CaptionTracker().signals(part(at_us=56 * SECOND), file((1, 2, "x")), timeline=TIMELINE)
    assert [(57.0, "x")] == places(signals)


def test_overlapping_parts_tell_each_text_once_and_a_text_that_stays_is_not_told_again() -> None:
    tracker = CaptionTracker()
    first = file((50, 51, "a"), (51, 52, "b"), (52, 53, "b"), clock_us=10 * SECOND)
    second = file((51, 52, "b"), (52, 53, "b"), (53, 54, "c"), clock_us=10 * SECOND)
    told = [
        *tracker.signals(part(0), first, timeline=TIMELINE),
        *tracker.signals(part(1), second, timeline=TIMELINE),
    ]
    assert [(50.0, "a"), (51.0, "b"), (53.0, "c")] == places(tuple(told))


def test_another_reader_gives_the_same_names() -> None:
    read = file((50, 51, "a"), clock_us=10 * SECOND)
    later = replace(TIMELINE, position_us=62 * SECOND, expected_pts_us=72 * SECOND)
    (one,) = CaptionTracker().signals(part(0), read, timeline=TIMELINE)
    (two,) = CaptionTracker().signals(part(0), read, timeline=later)
    assert (one.external_id, one.at_us) == (two.external_id, two.at_us)


def test_captions_from_before_the_streams_first_segment_are_left_out() -> None:
    assert () == CaptionTracker().signals(part(), file((-5, 1, "x"), clock_us=5 * SECOND), timeline=TIMELINE)


def test_parts_are_read_once_and_oldest_first() -> None:
    tracker = CaptionTracker()
    first = tracker.fresh(listing(3, 5), timeline=TIMELINE)
    for each in first:
        tracker.done(each)
    second = tracker.fresh(listing(4, 7), timeline=TIMELINE)
    assert ([3, 4, 5], [6, 7]) == (
        [each.segment.sequence for each in first],
        [each.segment.sequence for each in second],
    )
    assert [54 * SECOND, 56 * SECOND, 58 * SECOND] == [each.at_us for each in first]


def test_a_list_that_begins_anew_is_read_anew() -> None:
    tracker = CaptionTracker()
    tracker.done(part(500))
    assert [0, 1] == [each.segment.sequence for each in tracker.fresh(listing(0, 1), timeline=TIMELINE)]


def test_a_recording_is_read_some_minutes_ahead_of_its_media() -> None:
    fresh = CaptionTracker().fresh(listing(0, 999, ended=True), timeline=TIMELINE)
    assert (0, (60 * SECOND + LOOK_AHEAD_US) // (2 * SECOND)) == (fresh[0].at_us, fresh[-1].segment.sequence)
