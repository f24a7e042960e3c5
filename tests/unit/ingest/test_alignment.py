"""Where another variant goes on when its dates jump: a pause of the encoder is no hole."""

from datetime import UTC, datetime, timedelta

from ingest.domain.alignment import Place, align
from ingest.domain.playlist import Location, MediaPlaylist, Segment

START = datetime(2026, 1, 1, tzinfo=UTC)
PAUSE_S = 4


def listed(first: int, *, paused_before: int) -> MediaPlaylist:
    """Five segments; from number `paused_before` on the dates are later."""
    segments = tuple(
        Segment(
            sequence=n,
            location=Location(url=f"https://cdn.example.com/{n}.ts"),
            duration_us=2_000_000,
            wall_at=START + timedelta(seconds=2 * n + (PAUSE_S if n >= paused_before else 0)),
        )
        for n in range(first, first + 5)
    )
    return MediaPlaylist(
        url="https://cdn.example.com/x.m3u8",
        target_us=2_000_000,
        media_sequence=first,
        listed_count=5,
        segments=segments,
    )


def end_of(number: int) -> datetime:
    return START + timedelta(seconds=2 * number + 2)


def test_the_next_number_with_a_later_date_follows_at_once() -> None:
    aligned = align(listed(6, paused_before=8), place=Place(wall_at=end_of(7), sequence=8))
    assert ([8, 9, 10], 0) == ([each.sequence for each in aligned.fresh], aligned.missing_us)


def test_a_later_number_with_a_later_date_shows_a_hole() -> None:
    aligned = align(listed(10, paused_before=99), place=Place(wall_at=end_of(7), sequence=8))
    assert (10, 4_000_000) == (aligned.fresh[0].sequence, aligned.missing_us)
