"""Where another variant goes on when its dates jump: a pause of the encoder is no hole."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

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


def fast(first: int, *, pace: float, count: int = 5) -> MediaPlaylist:
    """Dates run at `pace` wall seconds for a second of media; number 100 is dated START."""
    segments = tuple(
        Segment(
            sequence=n,
            location=Location(url=f"https://cdn.example.com/{n}.ts"),
            duration_us=2_000_000,
            wall_at=START + timedelta(seconds=2 * pace * (n - 100)),
        )
        for n in range(first, first + count)
    )
    return replace(
        listed(first, paused_before=99), media_sequence=first, listed_count=count, segments=segments
    )


def end_at_pace(number: int, *, reckoned: int, pace: float) -> Place:
    """The end of segment `number`, reckoned in real time from the date of the `reckoned`-th last one."""
    told_at = START + timedelta(seconds=2 * pace * (number + 1 - reckoned - 100))
    reckoned_us = reckoned * 2_000_000
    wall_at = told_at + timedelta(microseconds=reckoned_us)
    return Place(wall_at=wall_at, sequence=number + 1 - 7_000, reckoned_us=reckoned_us)


@pytest.mark.parametrize("pace", [1 / 15, 0.25, 0.5])
@pytest.mark.parametrize("reckoned", [1, 2, 3])
def test_dates_of_a_source_that_runs_faster_are_read_at_their_own_pace(pace: float, reckoned: int) -> None:
    place = end_at_pace(101, reckoned=reckoned, pace=pace)
    aligned = align(fast(98, pace=pace, count=8), place=place)
    assert ([102, 103, 104, 105], 0) == ([each.sequence for each in aligned.fresh], aligned.missing_us)


def test_a_hole_of_a_source_that_runs_faster_is_as_long_as_its_media() -> None:
    aligned = align(fast(105, pace=0.25), place=end_at_pace(101, reckoned=1, pace=0.25))
    assert (105, 6_000_000) == (aligned.fresh[0].sequence, aligned.missing_us)


def test_dates_of_whole_seconds_are_no_pace() -> None:
    """Segments of 1.5 s at 0, 1, 3, 4, 6, …: steps of 1 s among them are rounding, not speed."""
    segments = tuple(
        replace(each, duration_us=1_500_000, wall_at=START + timedelta(seconds=3 * each.sequence // 2))
        for each in listed(2, paused_before=99).segments
    )
    whole = replace(listed(2, paused_before=99), segments=segments)
    place = Place(wall_at=START + timedelta(seconds=6), sequence=9_000, reckoned_us=1_500_000)
    assert [4, 5, 6] == [each.sequence for each in align(whole, place=place).fresh]


def end_of(number: int) -> datetime:
    return START + timedelta(seconds=2 * number + 2)


def test_the_next_number_with_a_later_date_follows_at_once() -> None:
    aligned = align(listed(6, paused_before=8), place=Place(wall_at=end_of(7), sequence=8))
    assert ([8, 9, 10], 0) == ([each.sequence for each in aligned.fresh], aligned.missing_us)


def test_a_later_number_with_a_later_date_shows_a_hole() -> None:
    aligned = align(listed(10, paused_before=99), place=Place(wall_at=end_of(7), sequence=8))
    assert (10, 4_000_000) == (aligned.fresh[0].sequence, aligned.missing_us)
