"""Which frames belong to a clip."""

from fractions import Fraction

import pytest

from clipper.domain.frames import FrameTable, NoFrames, frame_shown_at, select_frames

OFFSET = 126_000
TABLE = FrameTable(
    tick_s=Fraction(1, 90_000),
    first_pts=OFFSET,
    pts=tuple(OFFSET + n * 3600 for n in range(100)),
    last_duration=3600,
)
ORIGIN_US = 10_000_000


def test_the_first_frame_is_at_or_after_the_start_and_the_last_before_the_end() -> None:
    span = select_frames(TABLE, origin_us=ORIGIN_US, from_us=10_100_000, to_us=11_000_000)

    assert span.start_us == 10_120_000
    assert span.start_pts == OFFSET + 3 * 3600
    assert span.end_pts == OFFSET + 25 * 3600
    assert (len(span.offsets_us), span.length_us) == (22, 880_000)


def test_a_frame_a_tick_too_early_by_rounding_is_on_time() -> None:
    span = select_frames(TABLE, origin_us=ORIGIN_US - 11, from_us=10_120_000, to_us=11_000_000)

    assert span.start_pts == OFFSET + 3 * 3600
    assert span.end_pts == OFFSET + 25 * 3600


def test_the_last_frame_stands_for_its_own_duration() -> None:
    span = select_frames(TABLE, origin_us=ORIGIN_US, from_us=13_960_000, to_us=99_000_000)

    assert (span.length_us, span.offsets_us) == (40_000, (0,))


def test_uneven_frame_times_are_kept() -> None:
    uneven = FrameTable(tick_s=Fraction(1, 1000), first_pts=0, pts=(0, 33, 100, 133), last_duration=33)

    span = select_frames(uneven, origin_us=0, from_us=30_000, to_us=133_000)

    assert (span.offsets_us, span.length_us) == ((0, 67_000), 100_000)


def test_leading_frames_that_stand_before_the_first_in_the_file_do_not_move_the_clock() -> None:
    table = FrameTable(tick_s=Fraction(1, 1000), first_pts=80, pts=(0, 40, 80, 120), last_duration=40)

    span = select_frames(table, origin_us=5_000_000, from_us=5_000_000, to_us=6_000_000)

    assert span.start_pts == 80


def test_a_span_between_two_frames_has_none() -> None:
    with pytest.raises(NoFrames):
        select_frames(TABLE, origin_us=ORIGIN_US, from_us=10_005_000, to_us=10_030_000)


@pytest.mark.parametrize(
    ("at_us", "expected_us"),
    [(9_000_000, 0), (10_000_000, 0), (10_139_000, 120_000), (10_140_000, 120_000), (11_500_000, 960_000)],
)
def test_the_frame_that_stands_at_a_time_is_found(at_us: int, expected_us: int) -> None:
    span = select_frames(TABLE, origin_us=ORIGIN_US, from_us=10_000_000, to_us=11_000_000)

    assert frame_shown_at((span,), at_us) == expected_us


def test_times_in_a_later_run_count_from_the_clips_start_without_the_hole() -> None:
    first = select_frames(TABLE, origin_us=0, from_us=0, to_us=1_000_000)
    second = select_frames(TABLE, origin_us=20_000_000, from_us=20_000_000, to_us=21_000_000)

    assert frame_shown_at((first, second), 20_200_000) == 1_200_000
    assert frame_shown_at((first, second), 15_000_000) == 960_000
