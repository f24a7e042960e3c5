"""Where a gap lies in a recording, what is cut, what stands on the timeline then, and what is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.domain.recorder import Followed
from ingest.domain.repair import (
    EDGE_US,
    MARGIN_US,
    MOST_US,
    CutPiece,
    CutPlan,
    Excluded,
    Filled,
    Gap,
    GapGroup,
    Recording,
    Refusal,
    filled,
    grouped,
    placed,
    plan_cut,
    ready_events,
    shares,
    window_ids,
    windows_of,
    with_clocks,
    within,
)
from ingest.domain.windows import WindowPlan
from shared.events import Lane, Source
from shared.ids import OrganizationId, StreamId
from shared.repairs import is_repair_epoch, repair_epoch, repair_index

S = 1_000_000
BEGAN_AT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)  # of the stream's media time 0
STREAM = Followed(
    stream_id=StreamId("str_0123456789ab"),
    organization_id=OrganizationId("org_0123456789ab"),
    run=0,
    lane=Lane.LIVE,
    profile_key="profiles/0.json",
    source=Source(sealed_url="sealed", display_url="https://example.com"),
)


def gap(from_s: float, to_s: float, *, index: int = 0, **changes: Any) -> Gap:
    fields = {
        "wall_from_at": BEGAN_AT + timedelta(seconds=from_s),
        "wall_to_at": BEGAN_AT + timedelta(seconds=to_s),
    }
    return Gap(index=index, from_us=round(from_s * S), to_us=round(to_s * S), **fields | changes)


def recording(*, begins_s: float = -5, duration_s: float = 1000) -> Recording:
    """`begins_s` is its begin in media time."""
    at = BEGAN_AT + timedelta(seconds=begins_s)
    return Recording(recording_id="rec", started_at=at, duration_us=round(duration_s * S))


def planned(one: Gap, of: Recording) -> CutPlan:
    plan = plan_cut(one, of)
    assert isinstance(plan, CutPlan), plan
    return plan


def refused(one: Gap, of: Recording) -> str:
    plan = plan_cut(one, of)
    assert isinstance(plan, Refusal), plan
    return plan.reason


def test_a_gap_is_cut_with_a_margin_on_both_sides() -> None:
    plan = planned(gap(100, 110), recording())

    assert (105 * S - MARGIN_US, 115 * S + MARGIN_US) == (plan.cut_from_us, plan.cut_to_us)
    assert (-5 * S, 100 * S, 110 * S, "repaired") == (plan.shift_us, plan.from_us, plan.to_us, plan.outcome)


def test_nothing_is_cut_from_before_the_recording_or_before_the_stream() -> None:
    assert 0 == planned(gap(2, 6), recording(begins_s=0)).cut_from_us
    assert 5 * S == planned(gap(2, 6), recording(begins_s=-5)).cut_from_us


def test_a_recording_that_covers_a_part_repairs_that_part() -> None:
    plan = planned(gap(100, 110), recording(begins_s=0, duration_s=105))

    assert (100 * S, 105 * S, "partly") == (plan.from_us, plan.to_us, plan.outcome)
    late = planned(gap(100, 110), recording(begins_s=104))
    assert (104 * S, 110 * S, "partly", 0) == (late.from_us, late.to_us, late.outcome, late.cut_from_us)


@pytest.mark.parametrize("of", [recording(begins_s=0, duration_s=90), recording(begins_s=120)])
def test_a_recording_that_does_not_cover_the_gap_is_refused_with_the_place(of: Recording) -> None:
    assert "does not cover the gap" in refused(gap(100, 110), of)


def test_a_few_frames_short_of_the_gap_still_count_as_whole() -> None:
    plan = planned(gap(100, 110), recording(begins_s=0, duration_s=110 - EDGE_US / 2 / S))

    assert ("repaired", 110 * S) == (plan.outcome, plan.to_us)


def test_without_a_clock_nothing_is_guessed() -> None:
    assert "wall clock" in refused(gap(100, 110, wall_from_at=None, wall_to_at=None), recording())


def test_one_side_with_a_clock_is_enough() -> None:
    assert -5 * S == planned(gap(100, 110, wall_from_at=None), recording()).shift_us
    assert -5 * S == planned(gap(100, 110, wall_to_at=None), recording()).shift_us


def test_of_one_clock_alone_no_agreement_is_told() -> None:
    assert "agree" in planned(gap(100, 110), recording()).note
    assert "agree" not in planned(gap(100, 110, wall_to_at=None), recording()).note


def test_the_nearest_media_on_each_side_tells_the_clock() -> None:
    told = [(at_s * S, BEGAN_AT + timedelta(seconds=at_s)) for at_s in (0, 10, 20, 60, 70)]
    later = [(at_us, at + timedelta(seconds=2 if at_us >= 60 * S else 0)) for at_us, at in told]
    bare = gap(30, 50, wall_from_at=None, wall_to_at=None)

    [within_run] = with_clocks([bare], later)
    [at_the_end] = with_clocks([bare], later[:3])
    [without] = with_clocks([bare], [])

    assert gap(30, 50, wall_to_at=BEGAN_AT + timedelta(seconds=52)) == within_run
    assert gap(30, 50, wall_to_at=None) == at_the_end
    assert bare == without


def test_sides_that_disagree_a_little_widen_the_cut_and_are_told() -> None:
    plan = planned(gap(100, 110, wall_to_at=BEGAN_AT + timedelta(seconds=113)), recording())

    assert 115 * S + MARGIN_US + 3 * S == plan.cut_to_us
    assert "3.0 s" in plan.note


def test_a_pause_makes_the_place_uncertain_and_is_refused() -> None:
    assert "paused" in refused(gap(100, 110, wall_to_at=BEGAN_AT + timedelta(minutes=10)), recording())


def test_a_very_long_gap_is_repaired_in_part() -> None:
    plan = planned(gap(100, 100 + 2 * MOST_US / S), recording(duration_s=3 * MOST_US / S))

    assert (100 * S + MOST_US, "partly") == (plan.to_us, plan.outcome)


def test_neighbouring_gaps_are_cut_as_one_and_distant_ones_apart() -> None:
    gaps = (gap(130, 132, index=2), gap(100, 102, index=0), gap(102, 104, index=1), gap(400, 402, index=3))

    groups = grouped(gaps)

    assert [(0, 1), (2,), (3,)] == [tuple(each.index for each in group.gaps) for group in groups]
    assert (100 * S, 104 * S) == (groups[0].whole.from_us, groups[0].whole.to_us)


def test_each_gap_of_a_group_is_told_what_it_got() -> None:
    group = GapGroup(gaps=(gap(100, 104, index=0), gap(104, 108, index=1), gap(108, 112, index=2)))

    plan = planned(group.whole, recording(begins_s=0, duration_s=106))

    assert [("repaired", 100, 104), ("partly", 104, 106), ("failed", 108, 112)] == [
        (each.outcome, each.from_us // S, each.to_us // S) for each in shares(group, plan)
    ]


def piece(start_s: float, *, duration_s: float = 2.0) -> CutPiece:
    return CutPiece(
        key=f"archive/{start_s}",
        sha256="0" * 64,
        size_bytes=1,
        start_us=round(start_s * S),
        duration_us=round(duration_s * S),
    )


def test_pieces_tile_in_an_epoch_of_their_own_and_carry_the_wall_clock() -> None:
    plan = planned(gap(100, 104), recording())

    refs = placed(
        [piece(96, duration_s=3.9), piece(92, duration_s=4.1), piece(100)],
        epoch=repair_epoch(0, revision=1),
        plan=plan,
        recording=recording(),
    )

    assert [(92 * S, 4 * S), (96 * S, 4 * S), (100 * S, 2 * S)] == [
        (each.start_us, each.duration_us) for each in refs
    ]
    assert all(is_repair_epoch(each.epoch) for each in refs)
    assert [True, False, False] == [each.discontinuity for each in refs]
    assert BEGAN_AT + timedelta(seconds=92) == refs[0].wall_at


def test_a_piece_from_before_the_stream_is_left_out() -> None:
    plan = planned(gap(2, 4), recording())

    refs = placed([piece(-1), piece(1)], epoch=1, plan=plan, recording=recording())

    assert [1 * S] == [each.start_us for each in refs]


def test_what_the_recording_lacked_in_truth_is_not_told_as_repaired() -> None:
    plan = planned(gap(100, 110), recording())

    def outcome(*pieces: CutPiece) -> Any:
        return filled(plan, placed(pieces, epoch=1, plan=plan, recording=recording()))

    whole = outcome(piece(90, duration_s=30))
    part = outcome(piece(90, duration_s=15))
    assert whole == plan
    assert isinstance(part, CutPlan)
    assert ("partly", 105 * S) == (part.outcome, part.to_us)
    assert isinstance(outcome(piece(80, duration_s=15)), Refusal)
    assert isinstance(outcome(), Refusal)


def test_windows_and_their_events_are_a_function_of_the_gap() -> None:
    plan, one = planned(gap(100, 110, index=4, revision=2), recording()), gap(100, 110, index=4, revision=2)
    pieces = [piece(88 + 2 * number) for number in range(17)]
    refs = placed(pieces, epoch=repair_epoch(4, revision=2), plan=plan, recording=recording())

    windows = windows_of(refs, WindowPlan())
    events = ready_events(STREAM, one, refs, windows, at=BEGAN_AT)

    assert [(repair_index(4, n), 2) for n in range(len(windows))] == [
        (event.index, event.revision) for event in events
    ]
    assert {Lane.VOD} == {event.lane for event in events}
    lead = Filled(gap=one, outcome="repaired", from_us=one.from_us, to_us=one.to_us)
    assert len(windows) == len(set(window_ids(STREAM, lead, windows, share=lead)))
    assert refs[0] == events[0].segments[0]
    assert refs[-1] == events[-1].segments[-1]
    again = ready_events(STREAM, one, refs, windows, at=BEGAN_AT + timedelta(hours=1))
    assert [event.event_id for event in events] == [event.event_id for event in again]


@pytest.mark.parametrize(
    ("from_s", "to_s", "expected_s"),
    [
        (96, 100, [(88, 94), (102, 122)]),
        (95, 100, [(88, 94), (102, 122)]),
        (94.6, 100.4, [(88, 94), (102, 122)]),
        (80, 130, []),
        (60, 70, [(88, 108), (104, 122)]),
    ],
)
def test_what_is_no_programme_stands_in_no_window_of_a_repair(
    from_s: float, to_s: float, expected_s: list[tuple[int, int]]
) -> None:
    plan = planned(gap(100, 110), recording())
    refs = placed([piece(88 + 2 * n) for n in range(17)], epoch=1, plan=plan, recording=recording())
    ads = Excluded(from_us=round(from_s * S), to_us=round(to_s * S))

    windows = windows_of(refs, WindowPlan(), excluded=(ads,))

    assert expected_s == [(each.start_us // S, each.end_us // S) for each in windows]


def test_the_first_gap_of_a_group_names_all_windows_and_the_others_those_that_hold_them() -> None:
    refs = placed(
        [piece(88 + 2 * number) for number in range(60)],
        epoch=1,
        plan=planned(gap(100, 196), recording()),
        recording=recording(),
    )
    windows = windows_of(refs, WindowPlan())
    first, last = (
        Filled(gap=one, outcome="repaired", from_us=one.from_us, to_us=one.to_us)
        for one in (gap(100, 102), gap(194, 196, index=47))
    )

    every = window_ids(STREAM, first, windows, share=first)

    assert len(windows) == len(every) > 4
    holding = [each.start_us < 196 * S and each.end_us > 194 * S for each in windows]
    wanted = tuple(name for name, holds in zip(every, holding, strict=True) if holds)
    assert wanted == window_ids(STREAM, first, windows, share=last)
    assert 1 <= len(wanted) <= 2


def test_what_no_window_holds_is_not_told_as_repaired() -> None:
    plan = planned(gap(100, 140), recording())
    refs = placed([piece(88 + 2 * number) for number in range(32)], epoch=1, plan=plan, recording=recording())
    held = within(windows_of(refs, WindowPlan())[:1], refs)

    came_out = filled(plan, held)

    assert isinstance(came_out, CutPlan)
    assert ("partly", 108 * S) == (came_out.outcome, came_out.to_us)
    assert () == within((), refs)
