"""Moments and merges."""

import pytest

from selector.domain.moment import Clip, adds_nothing, gap_us, is_same_moment, merged
from shared.profile import ClipRules, SelectionRules
from tests.unit.selector.run_builder import moment, us


@pytest.mark.parametrize(
    ("start_s", "end_s", "same"),
    [(9, 14, True), (13, 16, True), (13.1, 16, False), (9, 128, True), (9, 129, False), (12, 39, False)],
    ids=["overlap", "within the gap", "beyond the gap", "longest clip", "too long", "apart and too long"],
)
def test_overlapping_or_touching_spans_that_one_clip_can_hold_are_the_same(
    start_s: float, end_s: float, same: bool
) -> None:
    one, other = moment(9, start_s=8, end_s=10), moment(start_s, start_s=start_s, end_s=end_s)
    assert is_same_moment(one, other, rules=SelectionRules(), clip=ClipRules()) is same


def test_the_gap_between_overlapping_spans_is_the_negative_of_what_they_share() -> None:
    assert gap_us(moment(5, start_s=0, end_s=10), moment(9, start_s=8, end_s=12)) == -us(2)


def test_a_merge_keeps_the_anchors_id_and_takes_the_union_and_the_stronger_ones_peak() -> None:
    anchor = moment(10, score=0.8, title="weak")
    after = merged(anchor, moment(11.5, score=0.9, title="strong"))
    assert (after.highlight_id, after.anchor) == (anchor.highlight_id, anchor.anchor)
    assert (after.start_us, after.end_us, after.peak_us) == (us(9), us(12.5), us(11.5))
    assert (after.score, after.title, after.revision) == (0.9, "strong", 0)


def test_a_weaker_newcomer_does_not_move_the_peak() -> None:
    after = merged(moment(10, score=0.9), moment(11, score=0.8))
    assert (after.peak_us, after.score) == (us(10), 0.9)


def test_merging_into_a_published_moment_makes_its_next_revision_once() -> None:
    once = merged(moment(10, confirmed=True), moment(11))
    twice = merged(once, moment(12))
    assert (once.revision, twice.revision, twice.unpublished) == (1, 1, True)


def test_a_newcomer_inside_the_published_clip_adds_nothing() -> None:
    shown = moment(10, confirmed=True).model_copy(update={"clip": Clip(start_us=0, end_us=us(30))})
    assert adds_nothing(shown, moment(20)) is True
    assert adds_nothing(shown, moment(30)) is False
    assert adds_nothing(moment(10), moment(10)) is False
