"""Where what we have ends when another rendition goes on: by the last date that was told, and what came after it."""

from datetime import UTC, datetime, timedelta

from ingest.domain.actions import Cursor, LossCause
from ingest.domain.alignment import Place
from ingest.domain.playlist import Location, Segment
from ingest.domain.queue import Hole, Progress, Slot
from ingest.domain.switching import place_after
from ingest.domain.timeline import Timeline

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
COMMITTED = Cursor(
    joined=True,
    sequence=9,
    date_time_end=NOON + timedelta(seconds=2),
    timeline=Timeline(position_us=20_000_000, wall_at=NOON, wall_position_us=18_000_000),
)


def slot(number: int, *, wall_at: datetime | None) -> Slot:
    segment = Segment(
        sequence=number,
        location=Location(url=f"https://cdn.example.com/{number}.ts"),
        duration_us=2_000_000,
        wall_at=wall_at,
    )
    return Slot(
        epoch=0, segment=segment, discontinuity_sequence=-1, is_newest=False, progress=Progress.STORED
    )


def hole(number: int) -> Hole:
    return Hole(
        epoch=0,
        from_sequence=number,
        to_sequence=number + 1,
        estimated_us=4_000_000,
        cause=LossCause.NOT_FOUND,
    )


def test_the_end_of_what_is_committed_is_reckoned_from_its_last_date() -> None:
    place = place_after((), cursor=COMMITTED)
    assert Place(wall_at=NOON + timedelta(seconds=2), sequence=10, reckoned_us=2_000_000) == place


def test_what_tells_no_date_adds_to_what_is_reckoned() -> None:
    place = place_after((hole(10), slot(12, wall_at=None)), cursor=COMMITTED)
    assert Place(wall_at=NOON + timedelta(seconds=8), sequence=13, reckoned_us=8_000_000) == place


def test_a_date_behind_what_was_reckoned_counts_instead() -> None:
    later = NOON + timedelta(minutes=1)
    place = place_after((hole(10), slot(12, wall_at=later)), cursor=COMMITTED)
    assert Place(wall_at=later + timedelta(seconds=2), sequence=13, reckoned_us=2_000_000) == place


def test_a_stream_without_dates_has_no_clock_at_its_end() -> None:
    place = place_after((), cursor=Cursor(joined=True, sequence=9))
    assert (None, 10) == (place.wall_at, place.sequence)
