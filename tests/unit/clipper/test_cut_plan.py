"""Which segments a clip needs."""

from typing import Any

import pytest

from clipper.domain.cut_plan import NothingToCut, plan_cut
from shared.events import SegmentRef

S = 1_000_000


def segment(number: int, **changes: Any) -> SegmentRef:
    """Segment `number` of 2 s, in its place."""
    fields: dict[str, Any] = {
        "key": f"archive/{number}.ts",
        "epoch": 0,
        "sequence": number,
        "start_us": number * 2 * S,
        "duration_us": 2 * S,
        "size_bytes": 1,
        "sha256": "0" * 64,
    }
    return SegmentRef(**{**fields, **changes})


STREAM = tuple(segment(number) for number in range(10))


def sequences(segments: tuple[SegmentRef, ...]) -> list[int]:
    return [one.sequence for one in segments]


def test_the_segments_of_the_span_are_taken_and_one_before_it_to_decode_from() -> None:
    (run,) = plan_cut(STREAM, start_us=7 * S, end_us=11 * S)

    assert sequences(run.segments) == [2, 3, 4, 5]
    assert (run.origin_us, run.from_us, run.to_us) == (4 * S, 7 * S, 11 * S)


def test_edges_on_segment_borders_take_no_segment_after_the_end() -> None:
    (run,) = plan_cut(STREAM, start_us=4 * S, end_us=8 * S)

    assert sequences(run.segments) == [1, 2, 3]


def test_the_first_segment_of_the_archive_has_none_before_it() -> None:
    (run,) = plan_cut(STREAM, start_us=0, end_us=3 * S)

    assert sequences(run.segments) == [0, 1]


def test_order_and_doubles_of_the_references_do_not_matter() -> None:
    shuffled = (*reversed(STREAM), STREAM[3])

    assert plan_cut(shuffled, start_us=7 * S, end_us=11 * S) == plan_cut(
        STREAM, start_us=7 * S, end_us=11 * S
    )


@pytest.mark.parametrize(
    "change",
    [{"discontinuity": True}, {"epoch": 1}, {"container": "fmp4", "init_key": "archive/init"}],
)
def test_a_break_splits_the_clip_into_runs_and_decoding_never_starts_across_it(
    change: dict[str, Any],
) -> None:
    broken = tuple(
        segment(n, **(change if n == 5 or (n > 5 and "discontinuity" not in change) else {}))
        for n in range(10)
    )

    before, after = plan_cut(broken, start_us=7 * S, end_us=13 * S)

    assert (sequences(before.segments), before.from_us, before.to_us) == ([2, 3, 4], 7 * S, 10 * S)
    assert (sequences(after.segments), after.from_us, after.to_us) == ([5, 6], 10 * S, 13 * S)


def test_a_hole_is_left_out() -> None:
    holed = tuple(one for one in STREAM if one.sequence != 5)

    before, after = plan_cut(holed, start_us=7 * S, end_us=15 * S)

    assert (before.to_us, after.from_us) == (10 * S, 12 * S)


def test_playlists_that_round_durations_are_still_one_run() -> None:
    rounded = tuple(segment(n, start_us=n * 2 * S + n * 10_000) for n in range(6))

    assert len(plan_cut(rounded, start_us=0, end_us=12 * S)) == 1


def test_a_span_without_media_cannot_be_cut() -> None:
    with pytest.raises(NothingToCut):
        plan_cut(STREAM, start_us=20 * S, end_us=30 * S)
