import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.timeline import (
    Break,
    MeasuredSegment,
    PlacedSegment,
    Timeline,
    differs,
    place_gap,
    place_segment,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = 1_000_000


def put(timeline: Timeline, **measured: Any) -> tuple[PlacedSegment, Timeline]:
    return place_segment(timeline, segment=MeasuredSegment(**{"listed_us": 2 * SECOND, **measured}))


def test_probed_duration_counts_and_extinf_only_without_it() -> None:
    first, timeline = put(Timeline(), probed_us=1_990_000)
    second, timeline = put(timeline)
    assert (first.duration_us, second.start_us, second.duration_us) == (1_990_000, 1_990_000, 2 * SECOND)


def test_a_gap_advances_media_time_and_wall_clock() -> None:
    _, timeline = put(Timeline(), wall_at=NOON)
    gap, timeline = place_gap(timeline, estimated_us=6 * SECOND)
    after, _ = put(timeline)
    assert (gap.index, gap.start_us, gap.end_us) == (0, 2 * SECOND, 8 * SECOND)
    assert (after.position, after.start_us, after.wall_at) == (1, 8 * SECOND, NOON + timedelta(seconds=8))


def test_a_later_date_time_anchors_anew() -> None:
    _, timeline = put(Timeline(), wall_at=NOON)
    second, timeline = put(timeline, wall_at=NOON + timedelta(minutes=1))
    third, _ = put(timeline)
    assert (second.wall_at, third.wall_at) == (
        NOON + timedelta(minutes=1),
        NOON + timedelta(minutes=1, seconds=2),
    )


def test_without_any_clock_there_is_no_wall_time() -> None:
    assert put(Timeline())[0].wall_at is None


@pytest.mark.parametrize(
    ("listed_s", "probed_s", "expected"),
    [(2, 2.4, Break.NONE), (2, 2.6, Break.SKEW), (10, 8.1, Break.NONE), (10, 7.9, Break.SKEW)],
)
def test_a_length_far_from_extinf_is_an_implicit_discontinuity(
    listed_s: int, probed_s: float, expected: Break
) -> None:
    placed, _ = put(Timeline(), listed_us=listed_s * SECOND, probed_us=round(probed_s * SECOND))
    assert placed.break_before == expected


def test_a_jump_of_the_media_clock_is_an_implicit_discontinuity() -> None:
    _, timeline = put(Timeline(), pts_us=10 * SECOND)
    placed, timeline = put(timeline, pts_us=500 * SECOND)
    assert (placed.break_before, timeline.discontinuity_count) == (Break.SKEW, 1)


def test_a_continuous_media_clock_outweighs_a_wrong_extinf() -> None:
    _, timeline = put(Timeline(), pts_us=0, probed_us=4 * SECOND)
    assert put(timeline, pts_us=4 * SECOND, probed_us=4 * SECOND)[0].break_before == Break.NONE


def test_the_wrap_of_a_33_bit_clock_is_no_jump() -> None:
    wrap_us = 2**33 * SECOND // 90_000
    _, timeline = put(Timeline(), pts_us=wrap_us - SECOND)
    assert put(timeline, pts_us=SECOND)[0].break_before == Break.NONE


def test_a_misjudged_last_frame_does_not_add_up() -> None:
    timeline, true_us = Timeline(), 0
    for n in range(10_000):
        true_us = n * 2_002_000
        placed, timeline = put(timeline, pts_us=true_us, probed_us=2_002_000 + (n % 3) * 7_000)
    assert abs(placed.start_us - true_us) <= 14_000


def test_segments_on_a_running_clock_tile_exactly() -> None:
    timeline, end_us = Timeline(), 0
    for n in range(500):
        placed, timeline = put(timeline, pts_us=n * 2_002_000 + n % 2, probed_us=2_001_989)
        assert (placed.start_us, placed.break_before) == (end_us, Break.NONE)
        end_us = placed.end_us


def test_a_small_hole_in_the_media_shows_as_one() -> None:
    _, timeline = put(Timeline(), pts_us=0, probed_us=2 * SECOND)
    placed, _ = put(timeline, pts_us=2 * SECOND + 200_000, probed_us=2 * SECOND)
    assert (placed.start_us, placed.duration_us) == (2 * SECOND + 200_000, 2 * SECOND)


def test_after_a_break_the_old_clock_says_nothing() -> None:
    _, timeline = put(Timeline(), pts_us=0, probed_us=2 * SECOND)
    placed, timeline = put(timeline, pts_us=90 * SECOND, probed_us=2 * SECOND, break_before=Break.TAGGED)
    after, _ = put(timeline, pts_us=92 * SECOND, probed_us=2 * SECOND)
    assert (2 * SECOND, 4 * SECOND) == (placed.start_us, after.start_us)


def test_a_given_break_is_kept() -> None:
    assert put(Timeline(), break_before=Break.EPOCH)[0].break_before == Break.EPOCH


def test_differs_allows_half_a_second_or_a_fifth() -> None:
    assert [differs(0, d, span_us=SECOND) for d in (500_000, 500_001)] == [False, True]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60 * SECOND)), max_size=40), st.booleans())
def test_segments_and_gaps_tile_media_time_across_saves(
    items: list[tuple[bool, int]], anchored: bool
) -> None:
    timeline, end_us, kinds = Timeline(wall_at=NOON if anchored else None), 0, [0, 0]
    for is_gap, length_us in items:
        timeline = Timeline.from_json(json.loads(json.dumps(timeline.to_json())))
        if is_gap:
            gap, timeline = place_gap(timeline, estimated_us=length_us)
            placed_at = (gap.index, gap.start_us, gap.end_us)
        else:
            segment, timeline = put(timeline, listed_us=length_us)
            placed_at = (segment.position, segment.start_us, segment.end_us)
        assert placed_at == (kinds[is_gap], end_us, end_us + length_us)
        kinds[is_gap] += 1
        end_us += length_us
    assert (timeline.position_us, timeline.segment_count, timeline.gap_count) == (end_us, *kinds)
