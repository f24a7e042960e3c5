"""The fold of a run: sealing order, confirmation, revision, end."""

import pytest

from selector.domain.inputs import Closed, GapReported, RunEnded, WindowExpired, WindowLost
from selector.domain.machine import ForeignWindows
from shared.events import Verdict
from shared.ids import WindowId, highlight_id
from shared.profile import ClipRules, Dimension, SelectionRules
from tests.unit.selector.run_builder import (
    STREAM,
    candidate,
    ended,
    final_of,
    fold,
    highlights,
    ledger_of,
    notes,
    outcome,
    profile,
    rules_of,
    segments,
    us,
    verdict,
    whole_run,
    window,
)


def test_a_moment_is_confirmed_when_the_delay_after_its_end_has_passed_in_media_time() -> None:
    one = candidate(0, 10)
    inputs = whole_run(4, (one,))
    before, outputs = fold(inputs[:5], profile())
    assert (before.watermark_us, highlights(outputs)) == (us(36), [])
    _, outputs = fold(inputs[5:7], profile(), before)
    [decided] = highlights(outputs)
    assert (decided.highlight_id, decided.revision) == (highlight_id(STREAM, one.candidate_id), 0)
    assert decided.segments == segments(0, 30)


def test_a_score_at_the_threshold_in_every_dimension_reaches_it() -> None:
    weights = (0.20, 0.20, 0.15, 0.15, 0.10, 0.10, 0.05, 0.05)
    dimensions = tuple(
        Dimension(name=f"d{at}", definition="", weight=each) for at, each in enumerate(weights)
    )
    eight = profile().model_copy(update={"dimensions": dimensions})
    one = candidate(0, 10).model_copy(update={"scores": {each.name: 0.7 for each in dimensions}})
    assert rules_of(fold(whole_run(1, (one,)), eight)[1], one) == ["accepted", "confirmed"]


def test_a_pending_moment_waits_for_the_media_of_its_clip() -> None:
    rules = SelectionRules(pending_us=0)
    one = candidate(0, 18)
    _, first = fold(whole_run(2, (one,))[:3], profile(selection=rules))
    _, both = fold(whole_run(2, (one,))[:5], profile(selection=rules))
    assert (len(highlights(first)), len(highlights(both))) == (0, 1)


def test_a_stretch_that_has_ended_is_not_waited_for() -> None:
    one = candidate(0, 18)
    behind = window(1, start_s=60, end_s=80)
    _, outputs = fold((window(0), one, verdict(0, (one,)), behind, verdict(1)), profile())
    [decided] = highlights(outputs)
    assert (decided.start_us, decided.end_us) == (0, us(20))


def test_what_is_pending_at_the_end_is_confirmed_and_the_selection_closes() -> None:
    one = candidate(0, 10)
    state, outputs = fold(whole_run(1, (one,)), profile())
    [final] = final_of(outputs)
    assert rules_of(outputs, one) == ["accepted", "confirmed"]
    assert [(pair.highlight_id, pair.revision) for pair in final.final] == [
        (highlight_id(STREAM, one.candidate_id), 0)
    ]
    assert (state.finished, final.windows_analysed) == (True, 1)


def test_windows_are_consumed_in_order_although_the_later_one_is_sealed_first() -> None:
    state, _ = fold((window(1), verdict(1)), profile())
    assert (state.consumed, state.blocked_on) == (0, 0)
    state, _ = fold((verdict(0), window(0)), profile(), state)
    assert state.consumed == 2


def test_a_run_that_ends_before_its_windows_arrive_closes_when_the_last_is_judged() -> None:
    inputs = whole_run(2, ())
    _, outputs = fold((inputs[-1], *inputs[:-1]), profile())
    assert len(final_of(outputs)) == 1


def test_a_run_without_windows_closes_at_once() -> None:
    _, outputs = fold((ended(0),), profile())
    assert final_of(outputs)[0].final == ()


def test_windows_of_another_run_or_stream_at_the_end_are_refused() -> None:
    with pytest.raises(ForeignWindows, match="1 windows"):
        fold((RunEnded(run=0, windows=(WindowId("win_x"),)),), profile())


def test_an_expired_window_counts_as_failed_with_its_reason_and_rejects_what_had_arrived() -> None:
    one, two = candidate(0, 5), candidate(0, 15, ordinal=1)
    given = (window(0), one, verdict(0, (one, two)), WindowExpired(run=0, index=0), ended(1))
    _, outputs = fold(given, profile())
    [final] = final_of(outputs)
    assert (final.windows_failed, final.failure_reason) == (1, "timeout")
    assert rules_of(outputs, one) == ["window_failed"]


def test_an_expired_window_waits_for_its_offer_and_a_lost_one_lets_the_next_pass() -> None:
    given = (window(1), verdict(1), WindowExpired(run=0, index=0))
    waiting, _ = fold(given, profile())
    passed, _ = fold((WindowLost(run=0, index=0),), profile(), waiting)
    assert (waiting.consumed, waiting.blocked_on) == (0, 0)
    assert (passed.consumed, passed.counts.failed, passed.counts.analysed) == (2, 1, 1)


def test_counts_and_the_first_failure_reason_go_by_index() -> None:
    failed = [verdict(at, outcome=Verdict.FAILED, reason=f"reason {at}") for at in (2, 1)]
    skipped = verdict(0, outcome=Verdict.SKIPPED, reason="quiet")
    _, outputs = fold((ended(3), *failed, *(window(at) for at in range(3)), skipped), profile())
    [final] = final_of(outputs)
    counts = (final.windows_analysed, final.windows_skipped, final.windows_failed, final.failure_reason)
    assert counts == (0, 1, 2, "reason 1")


def test_what_two_overlapping_windows_saw_is_one_highlight_under_the_first_anchor() -> None:
    one, same = candidate(0, 18, score=0.8), candidate(1, 18.5, score=0.9)
    _, outputs = fold(whole_run(4, (one, same)), profile())
    [decided] = highlights(outputs)
    assert (decided.highlight_id, decided.peak_us, decided.score) == (
        highlight_id(STREAM, one.candidate_id),
        us(18.5),
        0.9,
    )
    [line] = ledger_of(outputs, same.candidate_id)
    assert (line.rule, line.against, line.highlight_id) == (
        "merged",
        one.candidate_id,
        decided.highlight_id,
    )


EAGER = profile(selection=SelectionRules(pending_us=0), clip=ClipRules(target_us=us(10)))


def test_a_merge_beyond_the_confirmed_clip_makes_a_new_revision() -> None:
    one = candidate(0, 10, start_s=5, end_s=17)
    more = candidate(1, 20, start_s=16, end_s=34, score=0.75)
    _, outputs = fold(whole_run(4, (one, more)), EAGER)
    decided = highlights(outputs)
    expected_id = highlight_id(STREAM, one.candidate_id)
    assert [(each.highlight_id, each.revision) for each in decided] == [(expected_id, 0), (expected_id, 1)]
    assert [(each.start_us, each.end_us) for each in decided] == [(us(1), us(20)), (us(1), us(37))]
    assert [pair.revision for pair in final_of(outputs)[0].final] == [1]
    assert rules_of(outputs, one) == ["accepted", "confirmed", "revised"]


def test_a_merge_inside_the_confirmed_clip_changes_nothing() -> None:
    one = candidate(0, 10, start_s=5, end_s=17)
    again = candidate(1, 17.5, start_s=16.5, end_s=19, score=0.9)
    _, outputs = fold(whole_run(4, (one, again)), EAGER)
    assert [(each.revision, each.score) for each in highlights(outputs)] == [(0, 0.8)]
    assert rules_of(outputs, again) == ["merged"]


def test_moments_on_both_sides_of_a_gap_are_not_merged() -> None:
    one, other = candidate(0, 19, end_s=20), candidate(1, 23, start_s=22, score=0.9)
    given = (window(0), one, verdict(0, (one,)), window(1, start_s=22, end_s=42), other, verdict(1, (other,)))
    _, outputs = fold((*given, ended(2)), profile())
    assert rules_of(outputs, one) == ["accepted", "replaced"]
    assert [each.start_us for each in highlights(outputs)] == [us(22)]


def test_a_replaced_moment_is_never_published() -> None:
    weak, strong = candidate(0, 10, score=0.75), candidate(1, 30, score=0.9)
    _, outputs = fold(whole_run(6, (weak, strong)), profile())
    assert [each.peak_us for each in highlights(outputs)] == [us(30)]
    assert rules_of(outputs, weak) == ["accepted", "replaced"]


def test_edges_snap_to_the_points_of_the_verdicts() -> None:
    one = candidate(1, 26)
    given = (
        window(0),
        verdict(0, snaps_s=(9.5,)),
        window(1),
        one,
        verdict(1, (one,)),
        window(2),
        verdict(2, snaps_s=(39.5, 99)),
        ended(3),
    )
    _, outputs = fold(given, profile())
    [decided] = highlights(outputs)
    assert (decided.start_us, decided.end_us) == (us(9.5), us(39.5))


def test_late_foreign_and_repeated_inputs_are_noted_and_change_nothing() -> None:
    state, _ = fold((window(0), verdict(0)), profile())
    repair = window(3).model_copy(update={"revision": 1})
    foreign = window(1).model_copy(update={"run": 1})
    after, outputs = fold(
        (candidate(0, 5), repair, foreign, GapReported(run=0, from_us=0, to_us=1)), profile(), state
    )
    assert (after, notes(outputs)) == (state, ["late", "repair", "foreign_run"])


def test_a_candidate_that_no_verdict_names_is_noted() -> None:
    _, outputs = fold((window(0), candidate(0, 5), verdict(0)), profile())
    assert (notes(outputs), outcome(outputs)) == (["unnamed"], [])


def test_nothing_comes_out_of_a_closed_stream() -> None:
    state, outputs = fold((window(0), Closed(), *whole_run(3, (candidate(0, 5),)), Closed()), profile())
    assert (state.closed, outcome(outputs), set(notes(outputs))) == (True, [], {"closed"})


def test_nothing_comes_out_after_the_selection_closed() -> None:
    inputs = whole_run(2, (candidate(0, 5),))
    state, _ = fold(inputs, profile())
    after, outputs = fold(inputs, profile(), state)
    assert (after, set(notes(outputs))) == (state, {"finished"})
