"""Rows and events that actions leave behind, and that a successor makes the same ones."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.actions import CommitSegment, Cursor, EndCause, Ended, LossCause, SegmentLost
from ingest.domain.playlist import Location, Segment
from ingest.domain.recorder import Entry, Followed, Progress, Recorder, SegmentRow, StoredSegment
from ingest.domain.timeline import MeasuredSegment, Timeline, place_gap, place_segment
from ingest.domain.windows import WindowPlan
from shared.events import Event, Lane, SegmentReady, Source, StreamEnded, StreamFlowing
from shared.ids import Position, event_id, window_id
from tests.builders import ORGANIZATION, STREAM

AT = datetime(2026, 1, 1, tzinfo=UTC)
SEGMENT_US = 2_000_000
FOLLOWED = Followed(
    stream_id=STREAM,
    organization_id=ORGANIZATION,
    run=3,
    lane=Lane.VOD,
    profile_key="profiles/0.json",
    source=Source(sealed_url="x", display_url="x"),
)


class Run:
    """Feeds a recorder with segments and gaps; `restart` hands over to a successor."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.recorder = self._recorder(Progress(), ())
        self.timeline, self.sequence = Timeline(), -1
        self.first_wall_at: datetime | None = None

    def _recorder(self, progress: Progress, rows: tuple[SegmentRow, ...]) -> Recorder:
        return Recorder(FOLLOWED, plan=WindowPlan(), progress=progress, open_segments=rows)

    def restart(self) -> None:
        progress = Progress.from_json(json.loads(json.dumps(self.recorder.progress.to_json())))
        rows = tuple(e.segment for e in self.entries if e.segment)
        kept = tuple(row for row in rows if row.position >= progress.first_open_position)
        self.recorder = self._recorder(progress, kept)

    def segment(self) -> None:
        self.sequence += 1
        measured = MeasuredSegment(listed_us=SEGMENT_US, wall_at=self.first_wall_at)
        placed, self.timeline = place_segment(self.timeline, segment=measured)
        location = Location(url=f"http://x/{self.sequence}.ts")
        action = CommitSegment(
            epoch=0,
            segment=Segment(sequence=self.sequence, location=location, duration_us=SEGMENT_US),
            placed=placed,
            cursor=self.cursor(),
        )
        stored = StoredSegment(key=f"k{self.sequence}", size_bytes=1, sha256="0" * 64, container="mpegts")
        self.entries.append(self.recorder.segment(action, stored=stored, at=AT))

    def gap(self) -> None:
        self.sequence += 1
        placed, self.timeline = place_gap(self.timeline, estimated_us=SEGMENT_US)
        action = SegmentLost(
            epoch=0,
            from_sequence=self.sequence,
            to_sequence=self.sequence,
            cause=LossCause.NOT_FOUND,
            placed=placed,
            cursor=self.cursor(),
        )
        self.entries.append(self.recorder.lost(action, at=AT))

    def end(self) -> StreamEnded:
        action = Ended(cause=EndCause.ENDLIST, detail="", cursor=self.cursor())
        self.entries.append(self.recorder.ended(action, at=AT))
        (ended,) = self.events(StreamEnded)
        assert isinstance(ended, StreamEnded)
        return ended

    def cursor(self) -> Cursor:
        return Cursor(joined=True, sequence=self.sequence, timeline=self.timeline)

    def events(self, model: type[Event]) -> list[Any]:
        return [event for entry in self.entries for event in entry.events if isinstance(event, model)]


def test_the_first_segment_of_a_run_tells_that_media_flows_and_no_other_does() -> None:
    run = Run()
    run.first_wall_at = AT
    for step in (run.segment, run.segment, run.restart, run.segment, run.gap, run.segment):
        step()
    (flowing,) = run.events(StreamFlowing)
    assert [flowing] == list(run.entries[0].events)
    assert (3, 0, AT, AT, Lane.VOD) == (
        flowing.run,
        flowing.at_us,
        flowing.wall_at,
        flowing.occurred_at,
        flowing.lane,
    )
    assert event_id(STREAM, "stream.flowing", 3) == flowing.event_id


def test_a_gap_before_all_media_tells_nothing_of_flowing() -> None:
    run = Run()
    run.gap()
    assert [] == run.events(StreamFlowing)
    run.segment()
    (flowing,) = run.events(StreamFlowing)
    assert (SEGMENT_US, None) == (flowing.at_us, flowing.wall_at)


def test_a_window_carries_its_segments_and_place() -> None:
    run = Run()
    for _ in range(10):
        run.segment()
    (ready,) = run.events(SegmentReady)
    assert (3, 0, 0, 20_000_000, Lane.VOD) == (
        ready.run,
        ready.index,
        ready.start_us,
        ready.end_us,
        ready.lane,
    )
    assert [f"k{n}" for n in range(10)] == [ref.key for ref in ready.segments]
    assert window_id(STREAM, Position(3, 0)) == run.entries[-1].windows[0].window_id


def test_the_end_names_all_windows_and_gaps_and_sums_up() -> None:
    run = Run()
    for step in (run.segment, run.segment, run.gap, run.segment):
        step()
    ended = run.end()
    assert (3, 6_000_000, 8_000_000, (0,)) == (
        ended.segments,
        ended.media_duration_us,
        ended.offered_us,
        ended.gap_indexes,
    )
    assert tuple(window_id(STREAM, Position(3, n)) for n in range(2)) == ended.windows
    assert "endlist" == run.entries[-1].end_cause


def test_a_run_without_media_ends_without_windows() -> None:
    ended = Run().end()
    assert ((), (), 0, 0) == (ended.windows, ended.gap_indexes, ended.media_duration_us, ended.offered_us)


@given(st.lists(st.sampled_from(["segment", "segment", "segment", "gap", "restart"]), max_size=60))
def test_a_handover_at_any_place_changes_nothing(steps: list[str]) -> None:
    straight, handed = Run(), Run()
    for step in steps:
        getattr(handed, step)()
        if step != "restart":
            getattr(straight, step)()
    assert straight.end() == handed.end()
    assert straight.entries == handed.entries
