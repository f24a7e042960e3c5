"""The timeline in seconds: what is joined, what separates, how far clocks drift, where an answer is cut."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.completion import RunFacts
from gateway.domain.coverage import Span
from gateway.domain.stream_status import Ended, StreamRecord, StreamStatus
from gateway.domain.timeline import (
    AnnotationFact,
    GapFact,
    PublicTimeline,
    RepairFact,
    StallFact,
    TimelineRows,
    WindowFact,
    public_timeline,
)
from gateway.domain.timeline_stretch import Stretch, joined, stretches_of
from shared.repairs import repair_epoch, repair_index
from tests.builders import NOW, ORGANIZATION, STREAM, segment_ref

S = 1_000_000
RECORD = StreamRecord(
    stream_id=STREAM,
    organization_id=ORGANIZATION,
    platform="hls",
    display_url="https://example.com/live.m3u8",
    status=StreamStatus.PROCESSING,
    created_at=NOW,
    updated_at=NOW,
    started_at=NOW,
    deadline_at=NOW,
    offered_us=100 * S,
)


def stretch(from_s: float, to_s: float, **changes: Any) -> Stretch:
    return Stretch(from_us=round(from_s * S), to_us=round(to_s * S), **{"epoch": 0} | changes)


def window(index: int, *stretches: Stretch, **changes: Any) -> WindowFact:
    fields = {"verdict": "analysed", "reason": "", "degraded": False, "provider": "signals"}
    return WindowFact(
        index=index,
        from_us=stretches[0].from_us,
        to_us=stretches[-1].to_us,
        stretches=stretches,
        **fields | changes,
    )


def gap(index: int, from_s: float, to_s: float, **changes: Any) -> GapFact:
    return GapFact(
        index=index, from_us=round(from_s * S), to_us=round(to_s * S), **{"cause": "not_found"} | changes
    )


def repaired(from_s: float, to_s: float, outcome: str = "repaired") -> RepairFact:
    return RepairFact(
        outcome=outcome,
        from_us=round(from_s * S),
        to_us=round(to_s * S),
        revision=1,
        windows=1,
        reason="Placed by the wall clock.",
        repaired_at=NOW,
    )


def told(
    rows: TimelineRows, *, stream: StreamRecord = RECORD, facts: RunFacts | None = None
) -> PublicTimeline:
    return public_timeline(stream, facts or RunFacts(), rows)


def spans(timeline: PublicTimeline) -> list[tuple[str, float, float, str | None]]:
    return [(each.kind, each.from_s, each.to_s, each.starts_with) for each in timeline.stretches]


def test_segments_that_tile_are_one_stretch_and_a_break_begins_another() -> None:
    refs = [segment_ref(n, start_us=n * 2 * S) for n in range(5)]
    refs[3] = refs[3].model_copy(update={"discontinuity": True})

    assert [(0, 6 * S, False), (6 * S, 10 * S, True)] == [
        (each.from_us, each.to_us, each.breaks) for each in stretches_of(refs)
    ]


def test_what_overlapping_windows_bring_twice_is_told_once() -> None:
    found = joined([stretch(0, 20), stretch(16, 36), stretch(32, 40, epoch=0)])

    assert (stretch(0, 40),) == found


def test_a_break_that_two_windows_see_is_one() -> None:
    found = joined(
        [stretch(0, 20), stretch(20, 40, breaks=True), stretch(36, 50), stretch(20, 30, breaks=True)]
    )

    assert (stretch(0, 20), stretch(20, 50, breaks=True)) == found


def test_stretches_survive_their_way_through_the_database() -> None:
    one = stretch(1.5, 2, breaks=True, wall_at=NOW, wall_end_at=NOW + timedelta(seconds=1))

    assert (one, stretch(0, 1)) == (
        Stretch.from_json(one.to_json()),
        Stretch.from_json(stretch(0, 1).to_json()),
    )


def test_each_stretch_says_what_separates_it() -> None:
    rows = TimelineRows(
        windows=(
            window(0, stretch(0, 20)),
            window(1, stretch(20, 40, breaks=True)),
            window(2, stretch(44, 60)),
            window(3, stretch(60, 80, epoch=1)),
        ),
        gaps=(gap(0, 40, 44),),
    )

    assert [
        ("archived", 0, 20, "start"),
        ("archived", 20, 40, "discontinuity"),
        ("gap", 40, 44, None),
        ("archived", 44, 60, "gap"),
        ("archived", 60, 80, "epoch"),
    ] == spans(told(rows))


def test_the_drift_of_the_clocks_is_told_against_the_first_pair() -> None:
    first = stretch(0, 20, wall_at=NOW, wall_end_at=NOW + timedelta(seconds=20))
    later = stretch(30, 50, wall_at=NOW + timedelta(seconds=31), wall_end_at=NOW + timedelta(seconds=51.5))

    timeline = told(TimelineRows(windows=(window(0, first), window(1, later))))

    assert [0.0, 1.5] == [each.wall_skew_s for each in timeline.stretches]
    assert [NOW, NOW + timedelta(seconds=31)] == [each.wall_at for each in timeline.stretches]


def test_gaps_that_touch_and_are_alike_are_told_as_one() -> None:
    rows = TimelineRows(
        gaps=(gap(0, 10, 12), gap(1, 12, 14), gap(2, 14, 16, cause="timeout"), gap(3, 30, 32))
    )

    shown = [(each.from_s, each.to_s, each.cause, each.count) for each in told(rows).stretches]

    assert [(10, 14, "not_found", 2), (14, 16, "timeout", 1), (30, 32, "not_found", 1)] == shown


def test_gaps_that_were_repaired_alike_are_one_and_others_stay_apart() -> None:
    rows = TimelineRows(
        gaps=(
            gap(0, 10, 12, repair=repaired(10, 12)),
            gap(1, 12, 14, repair=repaired(12, 14)),
            gap(2, 14, 16, repair=repaired(14, 15, "partly")),
            gap(3, 16, 18),
        )
    )

    shown = told(rows).stretches

    assert [(10, 14), (14, 16), (16, 18)] == [(each.from_s, each.to_s) for each in shown]
    assert [None, True, True] == [each.advice and True for each in shown]
    assert shown[0].repair is not None
    assert (10, 14, 1) == (shown[0].repair.from_s, shown[0].repair.to_s, shown[0].repair.windows)


def test_a_cause_that_nobody_has_words_for_is_still_explained() -> None:
    [shown] = told(TimelineRows(gaps=(gap(0, 1, 2, cause="novel"),))).stretches

    assert shown.explanation and shown.advice


def test_windows_of_one_outcome_are_one_line_and_repairs_stand_apart() -> None:
    late = stretch(20, 40, epoch=repair_epoch(0, revision=1))
    rows = TimelineRows(
        windows=(
            window(0, stretch(0, 20)),
            window(1, stretch(16, 36)),
            window(repair_index(0, 0), late),
            window(2, stretch(32, 52), verdict="failed", reason="the model was away"),
            window(3, stretch(48, 60), verdict=None),
        )
    )

    timeline = told(rows)

    assert [
        ("analysed", 0, 36, 2, False),
        ("analysed", 20, 40, 1, True),
        ("failed", 32, 52, 1, False),
        ("pending", 48, 60, 1, False),
    ] == [(each.verdict, each.from_s, each.to_s, each.count, each.of_repair) for each in timeline.windows]
    assert ("repaired", 20, 40, None) in spans(timeline)


def test_an_answer_that_was_cut_ends_where_the_next_begins() -> None:
    rows = TimelineRows(
        windows=(window(0, stretch(0, 20)), window(1, stretch(16, 36))),
        gaps=(gap(0, 36, 40),),
        annotations=(AnnotationFact(kind="slate", from_us=50 * S, to_us=60 * S, detail=""),),
        stalls=(StallFact(at_us=55 * S, cause="silent", stalled_at=NOW, resumed_at=None),),
        cut_us=16 * S,
    )

    timeline = told(rows)

    assert ([("archived", 0, 16, "start")], 16) == (spans(timeline), timeline.next_from_s)
    assert ([0], []) == ([each.from_s for each in timeline.windows], timeline.stalls)


@pytest.mark.parametrize("ended", [False, True])
def test_coverage_leaves_out_what_is_not_to_be_judged(*, ended: bool) -> None:
    facts = RunFacts(
        analysed=(Span(0, 70 * S),),
        excluded=(Span(60 * S, 80 * S),),
        gaps=1,
        gaps_us=10 * S,
        repaired_us=5 * S,
    )
    end = Ended(cause="endlist", offered_us=100 * S, excluded_us=20 * S)
    stream = replace(RECORD, ended=end) if ended else RECORD

    coverage = told(TimelineRows(), stream=stream, facts=facts).coverage

    assert (100, 90, 10, 20, 60) == (
        coverage.offered_s,
        coverage.archived_s,
        coverage.gap_s,
        coverage.excluded_s,
        coverage.analysed_s,
    )
    assert (75.0, 90.0, 10.0, 20.0) == (
        coverage.analysed_pct,
        coverage.archived_pct,
        coverage.gap_pct,
        coverage.excluded_pct,
    )


def test_a_stream_that_offered_nothing_has_no_shares() -> None:
    coverage = told(TimelineRows(), stream=replace(RECORD, offered_us=0)).coverage

    assert (None, None, None) == (coverage.analysed_pct, coverage.archived_pct, coverage.gap_pct)
