"""Each rule of selection, and who wins a conflict."""

import pytest

from selector.domain.archive import Archive
from selector.domain.moment import Moment
from selector.domain.rules import (
    Finding,
    Scene,
    after_merge,
    below_threshold,
    contest,
    is_exceptional,
    max_highlights,
    outside_archive,
    outside_window,
    similar,
    similarity,
    spacing,
    window_failed,
    window_limit,
    word_overlap,
)
from shared.events import Verdict
from shared.profile import Profile, SelectionRules
from tests.unit.selector.run_builder import candidate, moment, profile, segments, us


def _scene(*held: Moment, total: int | None = None, by: Profile | None = None) -> Scene:
    return Scene(held=held, total=len(held) if total is None else total, profile=by or profile())


def _found(finding: Finding | None) -> Finding:
    assert finding is not None
    return finding


@pytest.mark.parametrize(
    ("start_s", "peak_s", "end_s"),
    [(0, 5, 5.5), (9, 10, 21), (3, 2, 4), (3, 5, 4), (6, 5, 4)],
    ids=["before", "behind", "peak before span", "peak behind span", "reversed"],
)
def test_times_outside_the_window_or_out_of_order_are_rejected(
    start_s: float, peak_s: float, end_s: float
) -> None:
    given = candidate(0, peak_s, start_s=start_s, end_s=end_s)
    assert _found(outside_window(given, start_us=us(1), end_us=us(20))).rule == "outside_window"


def test_times_on_the_windows_edges_are_inside() -> None:
    assert outside_window(candidate(0, 0, start_s=0, end_s=20), start_us=0, end_us=us(20)) is None


def test_a_peak_in_a_hole_of_the_archive_is_rejected() -> None:
    archive = Archive().with_segments((*segments(0, 4), *segments(8, 12)))
    assert _found(outside_archive(candidate(0, 6), archive=archive)).rule == "outside_archive"
    assert outside_archive(candidate(0, 9), archive=archive) is None


def test_a_candidate_of_a_failed_window_is_rejected_with_the_windows_reason() -> None:
    assert window_failed(Verdict.FAILED, reason="timeout").words == "its window is failed: timeout"


def test_a_score_at_the_threshold_passes_and_one_below_does_not() -> None:
    assert below_threshold(0.70, profile=profile()) is None
    assert _found(below_threshold(0.699, profile=profile())).words == "score 0.699 is below 0.700"


def test_similarity_weighs_nearness_with_six_and_words_with_four_tenths() -> None:
    one, other = moment(1, title="big win"), moment(61, title="big loss")
    assert similarity(one, other, reach_us=us(120)) == pytest.approx(0.6 * 0.5 + 0.4 / 3)


def test_moments_without_words_share_none() -> None:
    assert word_overlap(moment(5), moment(9)) == 0.0


def test_moments_beyond_the_reach_are_not_near() -> None:
    assert similarity(moment(1, title="a"), moment(200, title="b"), reach_us=us(120)) == 0.0


def test_a_similar_weaker_pending_moment_gives_way() -> None:
    held = moment(10, score=0.8, title="ace by tenz")
    finding = _found(similar(moment(50, score=0.9, title="ace by tenz"), scene=_scene(held)))
    assert (finding.blocked, finding.giving_way) == (False, (held,))


@pytest.mark.parametrize(
    "held",
    [moment(10, score=0.95, title="ace by tenz"), moment(10, score=0.8, title="ace by tenz", confirmed=True)],
    ids=["stronger", "confirmed"],
)
def test_a_stronger_or_confirmed_similar_moment_blocks(held: Moment) -> None:
    finding = _found(similar(moment(50, score=0.9, title="ace by tenz"), scene=_scene(held)))
    assert (finding.blocked, finding.against) == (True, held)


def test_an_exceptional_newcomer_does_not_override_similarity() -> None:
    held = moment(10, score=0.8, title="ace by tenz", confirmed=True)
    ruling = contest(moment(50, score=0.99, title="ace by tenz"), scene=_scene(held))
    assert _found(ruling.rejection).rule == "similar"


def test_peaks_exactly_at_the_spacing_are_far_enough() -> None:
    assert spacing(moment(40, title="b"), scene=_scene(moment(10, title="a"))) is None


def test_a_weaker_pending_neighbour_gives_way() -> None:
    held = moment(10, score=0.75, title="a")
    ruling = contest(moment(35, score=0.8, title="b"), scene=_scene(held))
    assert (ruling.rejection, [leaving for leaving, _ in ruling.leaving]) == (None, [held])


def test_a_weaker_newcomer_is_rejected_by_spacing() -> None:
    held = moment(10, score=0.85, title="a")
    finding = _found(contest(moment(35, score=0.8, title="b"), scene=_scene(held)).rejection)
    assert (finding.rule, finding.against, finding.bound) == ("spacing", held, 30.0)


def test_a_confirmed_neighbour_never_gives_way() -> None:
    held = moment(10, score=0.85, title="a", confirmed=True)
    assert _found(contest(moment(35, score=0.9, title="b"), scene=_scene(held)).rejection).rule == "spacing"


def test_on_equal_scores_the_one_that_stands_stays() -> None:
    held = moment(10, score=0.8, title="a")
    assert _found(contest(moment(35, score=0.8, title="b"), scene=_scene(held)).rejection).rule == "spacing"


def test_an_exceptional_newcomer_overrides_the_spacing_to_a_confirmed_moment() -> None:
    held = moment(10, score=0.97, title="a", confirmed=True)
    ruling = contest(moment(35, score=0.96, title="b"), scene=_scene(held))
    assert (ruling.rejection, ruling.leaving) == (None, ())
    assert [each.rule for each in ruling.overridden] == ["spacing"]


def test_a_newcomer_better_than_the_best_nearby_by_the_margin_overrides() -> None:
    held = moment(10, score=0.75, title="a", confirmed=True)
    assert contest(moment(35, score=0.86, title="b"), scene=_scene(held)).rejection is None
    assert contest(moment(35, score=0.84, title="b"), scene=_scene(held)).rejection is not None


def test_an_exceptional_pending_neighbour_is_kept_beside_a_stronger_exceptional_one() -> None:
    held = moment(10, score=0.96, title="a")
    ruling = contest(moment(38, score=0.98, title="b"), scene=_scene(held))
    assert (ruling.rejection, ruling.leaving, len(ruling.overridden)) == (None, (), 1)


def test_nothing_is_exceptional_by_margin_where_nothing_stands_nearby() -> None:
    assert is_exceptional(moment(10, score=0.9), scene=_scene()) is False
    assert is_exceptional(moment(1000, score=0.9), scene=_scene(moment(10, score=0.7))) is False


def _full_window(*, confirmed: bool = False) -> tuple[Moment, ...]:
    return tuple(
        moment(at_s, score=score, title=f"at {at_s}", confirmed=confirmed)
        for at_s, score in ((10, 0.80), (110, 0.82), (210, 0.84))
    )


def test_the_fourth_in_a_limit_window_is_rejected() -> None:
    finding = _found(contest(moment(290, score=0.75, title="x"), scene=_scene(*_full_window())).rejection)
    assert (finding.rule, finding.bound) == ("window_limit", 3.0)


def test_the_next_limit_window_starts_anew() -> None:
    assert window_limit(moment(300, score=0.75), scene=_scene(*_full_window())) is None


def test_a_stronger_newcomer_takes_the_place_of_the_weakest_pending_in_a_full_window() -> None:
    held = _full_window()
    ruling = contest(moment(290, score=0.81, title="x"), scene=_scene(*held))
    assert [leaving for leaving, _ in ruling.leaving] == [held[0]]


def test_a_full_window_of_confirmed_moments_is_closed_to_ordinary_newcomers() -> None:
    scene = _scene(*_full_window(confirmed=True))
    assert _found(contest(moment(290, score=0.9, title="x"), scene=scene).rejection).rule == "window_limit"


def test_an_exceptional_newcomer_is_kept_on_top_of_a_full_window() -> None:
    ruling = contest(moment(290, score=0.95, title="x"), scene=_scene(*_full_window()))
    assert (ruling.rejection, ruling.leaving) == (None, ())
    assert [each.rule for each in ruling.overridden] == ["window_limit"]


def _capped(cap: int) -> Profile:
    return profile(selection=SelectionRules(max_highlights=cap))


def test_the_cap_is_not_overridden_by_an_exceptional_newcomer() -> None:
    held = moment(10, score=0.8, title="a", confirmed=True)
    ruling = contest(moment(500, score=0.99, title="b"), scene=_scene(held, by=_capped(1)))
    assert _found(ruling.rejection).rule == "max_highlights"


def test_at_the_cap_a_stronger_newcomer_replaces_the_weakest_pending() -> None:
    held = (moment(10, score=0.8, title="a"), moment(500, score=0.75, title="b"))
    ruling = contest(moment(900, score=0.78, title="c"), scene=_scene(*held, by=_capped(2)))
    assert [leaving for leaving, _ in ruling.leaving] == [held[1]]


def test_who_gave_way_to_spacing_no_longer_counts_against_the_cap() -> None:
    held = (moment(10, score=0.75, title="a"), moment(500, score=0.72, title="b"))
    ruling = contest(moment(30, score=0.8, title="c"), scene=_scene(*held, by=_capped(2)))
    assert [leaving for leaving, _ in ruling.leaving] == [held[0]]


def test_without_a_cap_there_is_no_objection() -> None:
    assert max_highlights(moment(10), scene=_scene(total=10_000)) is None


def test_nobody_leaves_for_a_newcomer_that_a_later_rule_rejects() -> None:
    selection = SelectionRules(max_per_window=1)
    near, full = moment(290, score=0.75, title="a"), moment(310, score=0.9, title="b", confirmed=True)
    scene = _scene(near, full, by=profile(selection=selection.model_copy(update={"spacing_us": us(10)})))
    ruling = contest(moment(300, score=0.8, title="c"), scene=scene)
    assert (_found(ruling.rejection).rule, ruling.leaving) == ("window_limit", ())


def test_a_merge_that_leaves_the_peak_is_always_allowed() -> None:
    before, neighbour = moment(10, title="a"), moment(20, score=0.9, title="b")
    assert after_merge(before, before, scene=_scene(neighbour)) == before


def test_a_merge_may_not_move_a_peak_towards_another_moment() -> None:
    before, after = moment(10, title="a"), moment(15, title="a")
    assert after_merge(before, after, scene=_scene(moment(42, score=0.9, title="b"))) is None
    assert after_merge(before, after, scene=_scene(moment(45, score=0.9, title="b"))) == after


def test_an_exceptional_merge_may_and_is_marked() -> None:
    before, after = moment(10, title="a"), moment(15, title="a", score=0.96)
    kept = after_merge(before, after, scene=_scene(moment(42, score=0.9, title="b")))
    assert kept == after.model_copy(update={"override": True})
