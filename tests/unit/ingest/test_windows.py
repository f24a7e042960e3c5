import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.domain.windows import (
    ArchivedSegment,
    PlannerState,
    Window,
    WindowPlan,
    add_segment,
    close_run,
    plan_windows,
)

PLAN = WindowPlan()
SECOND = 1_000_000


def archive(
    *durations_s: float, gaps: dict[int, float] | None = None, breaks: set[int] | None = None
) -> tuple[ArchivedSegment, ...]:
    segments, at_us = [], 0
    for position, duration_s in enumerate(durations_s):
        at_us += round((gaps or {}).get(position, 0) * SECOND)
        duration_us = round(duration_s * SECOND)
        segments.append(
            ArchivedSegment(
                position=position,
                start_us=at_us,
                duration_us=duration_us,
                breaks=position in (breaks or set()),
            )
        )
        at_us += duration_us
    return tuple(segments)


def spans(windows: tuple[Window, ...]) -> list[tuple[int, int]]:
    return [(window.first_position, window.last_position) for window in windows]


@st.composite
def archives(draw: st.DrawFn) -> tuple[ArchivedSegment, ...]:
    durations = draw(st.lists(st.floats(0.05, 40), max_size=60))
    gaps = draw(st.dictionaries(st.integers(0, 59), st.floats(0.001, 60), max_size=5))
    breaks = draw(st.sets(st.integers(1, 59), max_size=5))
    return archive(*durations, gaps=gaps, breaks=breaks)


def test_two_second_segments_give_twenty_second_windows_every_sixteen_seconds() -> None:
    assert spans(plan_windows(archive(*[2] * 30), plan=PLAN, final=False)) == [(0, 9), (8, 17), (16, 25)]


def test_ten_second_segments_give_windows_that_overlap_by_one_segment() -> None:
    assert spans(plan_windows(archive(*[10] * 7), plan=PLAN, final=False)) == [(0, 1), (1, 3), (3, 5)]


def test_segments_longer_than_the_maximum_are_windows_of_their_own() -> None:
    assert spans(plan_windows(archive(40, 35, 2, 50), plan=PLAN, final=True)) == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
    ]


def test_no_window_crosses_a_discontinuity_or_a_gap() -> None:
    segments = archive(*[2] * 12, gaps={4: 6}, breaks={8})
    assert spans(plan_windows(segments, plan=PLAN, final=True)) == [(0, 3), (4, 7), (8, 11)]


def test_a_short_last_window_reaches_back_to_the_minimum() -> None:
    (*_, last) = plan_windows(archive(*[2] * 11), plan=PLAN, final=True)
    assert (last.first_position, last.last_position, last.fresh_from_us) == (6, 10, 20 * SECOND)


def test_overlap_alone_is_no_window() -> None:
    assert spans(plan_windows(archive(*[2] * 10), plan=PLAN, final=True)) == [(0, 9)]


def test_an_empty_archive_has_no_windows() -> None:
    assert plan_windows((), plan=PLAN, final=True) == ()


def test_a_plan_with_impossible_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="minimum <= target"):
        WindowPlan(target_us=5)
    with pytest.raises(ValueError, match="overlap"):
        WindowPlan(overlap_us=20 * SECOND)


@given(archives(), st.booleans())
def test_folding_with_a_state_saved_after_each_segment_gives_what_the_batch_gives(
    segments: tuple[ArchivedSegment, ...], final: bool
) -> None:
    state = PlannerState()
    windows: list[Window] = []
    for segment in segments:
        state = PlannerState.from_json(json.loads(json.dumps(state.to_json())))
        state, closed = add_segment(state, segment=segment, plan=PLAN)
        windows.extend(closed)
    if final:
        windows.extend(close_run(state, plan=PLAN)[1])
    assert tuple(windows) == plan_windows(segments, plan=PLAN, final=final)


@given(archives())
def test_closing_a_run_when_its_gap_is_known_changes_no_window(segments: tuple[ArchivedSegment, ...]) -> None:
    state = PlannerState()
    windows: list[Window] = []
    for index, segment in enumerate(segments):
        if index and segment.start_us != segments[index - 1].end_us:
            state, closed = close_run(state, plan=PLAN)
            windows.extend(closed)
        state, closed = add_segment(state, segment=segment, plan=PLAN)
        windows.extend(closed)
    assert tuple(windows) == plan_windows(segments, plan=PLAN, final=False)


@given(archives(), st.data())
def test_more_segments_never_change_earlier_windows(
    segments: tuple[ArchivedSegment, ...], data: st.DataObject
) -> None:
    fewer = plan_windows(segments[: data.draw(st.integers(0, len(segments)))], plan=PLAN, final=False)
    assert plan_windows(segments, plan=PLAN, final=True)[: len(fewer)] == fewer


@settings(max_examples=300)
@given(archives())
def test_windows_cover_all_media_in_order_without_crossing_borders(
    segments: tuple[ArchivedSegment, ...],
) -> None:
    windows = plan_windows(segments, plan=PLAN, final=True)
    covered = sorted({p for w in windows for p in range(w.first_position, w.last_position + 1)})
    assert covered == list(range(len(segments)))
    assert [window.index for window in windows] == list(range(len(windows)))
    assert sum(w.end_us - w.fresh_from_us for w in windows) == sum(s.duration_us for s in segments)
    for window in windows:
        inside = segments[window.first_position : window.last_position + 1]
        assert all(b.start_us == a.end_us and not b.breaks for a, b in pairwise(inside))
        assert window.duration_us <= PLAN.maximum_us or len(inside) == 1
        assert (window.start_us, window.end_us) == (inside[0].start_us, inside[-1].end_us)


def test_the_saved_state_stays_small_over_twelve_hours() -> None:
    state = PlannerState()
    for segment in archive(*[2] * 21_600):
        state, _ = add_segment(state, segment=segment, plan=PLAN)
    assert len(json.dumps(state.to_json())) < 2_000
