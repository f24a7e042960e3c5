"""What comes after the end of a run: late moments, judged beside what stands, in any order of arrival."""

from random import Random

import pytest

from selector.domain.inputs import (
    CandidateArrived,
    Closed,
    Input,
    RepairEnded,
    WindowExpired,
    WindowInput,
    WindowLost,
)
from selector.domain.machine import opened
from selector.domain.moment import Moment
from selector.domain.outputs import Output, Standing
from selector.domain.repairs import apply_late, is_awaited, overdue
from selector.domain.state import State
from shared.ids import Position, WindowId, candidate_id, highlight_id, window_id
from shared.profile import Profile, SelectionRules
from shared.repairs import repair_epoch, repair_index
from tests.unit.selector.run_builder import (
    STREAM,
    candidate,
    final_of,
    highlights,
    notes,
    outcome,
    profile,
    rules_of,
    segment,
    us,
    verdict,
    whole_run,
    window,
)

GAP = 0


def run(
    inputs: tuple[Input, ...],
    *,
    state: State | None = None,
    standing: tuple[Moment, ...] = (),
    given: Profile,
) -> tuple[State, list[Output], tuple[Moment, ...]]:
    """As the workflow does it: what is published is kept, and handed in again."""
    state = opened(STREAM, run=0) if state is None else state
    known = {each.highlight_id: each for each in standing}
    outputs: list[Output] = []
    for one in inputs:
        state = State.from_json(state.to_json())
        state, more = apply_late(state, one, profile=given, standing=tuple(known.values()))
        known |= {each.moment.highlight_id: each.moment for each in more if isinstance(each, Standing)}
        outputs.extend(more)
    return state, outputs, tuple(known.values())


def late_window(ordinal: int, start_s: int, end_s: int, *, gap: int = GAP, revision: int = 1) -> Input:
    made = window(0, start_s=start_s, end_s=end_s)
    epoch = repair_epoch(gap, revision=revision)
    segments = tuple(segment(at_s, epoch=epoch) for at_s in range(start_s, end_s, 2))
    return _late(made, ordinal, gap=gap, revision=revision).model_copy(update={"segments": segments})


def late_candidate(
    ordinal: int, peak_s: float, *, gap: int = GAP, revision: int = 1, **fields: object
) -> CandidateArrived:
    position = Position(0, repair_index(gap, ordinal), revision)
    made = candidate(0, peak_s, **fields)  # type: ignore[arg-type]
    late = _late(made, ordinal, gap=gap, revision=revision)
    assert isinstance(late, CandidateArrived)
    return late.model_copy(update={"candidate_id": candidate_id(STREAM, position, 0)})


def late_verdict(
    ordinal: int, candidates: tuple[CandidateArrived, ...] = (), *, gap: int = GAP, revision: int = 1
) -> Input:
    return _late(verdict(0, candidates), ordinal, gap=gap, revision=revision)


def _late(given: WindowInput, ordinal: int, *, gap: int, revision: int) -> WindowInput:
    return given.model_copy(update={"index": repair_index(gap, ordinal), "revision": revision})


def repair_ended(windows: int, *, gap: int = GAP, revision: int = 1) -> RepairEnded:
    names = (window_id(STREAM, Position(0, repair_index(gap, at), revision)) for at in range(windows))
    return RepairEnded(run=0, gap_index=gap, revision=revision, windows=tuple(map(WindowId, names)))


def whole_repair(*candidates: CandidateArrived, start_s: int = 100) -> tuple[Input, ...]:
    """Two windows of 20 s every 16 s over a stretch of 36 s."""
    inputs: list[Input] = []
    for ordinal in range(2):
        own = tuple(each for each in candidates if each.index == repair_index(GAP, ordinal))
        begin_s = start_s + 16 * ordinal
        inputs += [late_window(ordinal, begin_s, begin_s + 20), *own, late_verdict(ordinal, own)]
    return (*inputs, repair_ended(2))


def test_a_late_moment_is_confirmed_and_the_selection_closes_once_more() -> None:
    first, late = candidate(0, 10), late_candidate(0, 110)

    state, outputs, _ = run((*whole_run(2, (first,)), *whole_repair(late)), given=profile())

    assert ["accepted", "confirmed"] == rules_of(outputs, late)
    [before, after] = final_of(outputs)
    assert (0, 2) == (before.revision, after.revision)
    wanted = [highlight_id(STREAM, each.candidate_id) for each in (first, late)]
    assert wanted[:1] == [pair.highlight_id for pair in before.final]
    assert wanted == [pair.highlight_id for pair in after.final]
    assert (4, 2) == (after.windows_analysed, state.repaired_windows)
    assert ((), ((GAP, 1),)) == (state.repairs, state.repaired)


def test_the_clip_of_a_late_moment_is_cut_from_the_repair_alone() -> None:
    late = late_candidate(0, 119)

    _, outputs, _ = run((*whole_run(1, ()), *whole_repair(late)), given=profile())

    [decided] = highlights(outputs)
    assert {repair_epoch(GAP, revision=1)} == {each.epoch for each in decided.segments}
    assert us(100) <= decided.start_us < us(119) < us(120) < decided.end_us  # reaches into the second window


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_arrival_changes_nothing(seed: int) -> None:
    moments = (late_candidate(0, 104, score=0.75), late_candidate(1, 130, score=0.9))
    base, late = whole_run(2, (candidate(0, 10),)), whole_repair(*moments)
    shuffled = [*base, *late]
    Random(seed).shuffle(shuffled)

    state, outputs, _ = run((*base, *late), given=profile())
    other_state, others, _ = run((*shuffled, *shuffled), given=profile())

    assert (state, sorted(map(repr, outcome(outputs)))) == (other_state, sorted(map(repr, outcome(others))))


def test_a_late_moment_beside_a_highlight_is_turned_away_and_the_highlight_stays() -> None:
    first = candidate(6, 110, score=0.75)
    late = late_candidate(0, 117, score=0.8)

    _, outputs, _ = run((*whole_run(8, (first,)), *whole_repair(late)), given=profile())

    assert ["spacing"] == rules_of(outputs, late)
    assert final_of(outputs)[0].final == final_of(outputs)[-1].final


def test_a_late_moment_counts_against_the_most_highlights() -> None:
    rules = SelectionRules(max_highlights=1)
    late = late_candidate(0, 110, score=0.99)

    _, outputs, _ = run(
        (*whole_run(1, (candidate(0, 10),)), *whole_repair(late)), given=profile(selection=rules)
    )

    assert ["max_highlights"] == rules_of(outputs, late)


def narrow() -> Profile:
    """Clips hardly longer than their moments, so that a merge shows in the edges."""
    clip = {"target_us": us(12), "minimum_us": us(5), "lead_in_us": 0, "lead_out_us": 0}
    return profile().model_copy(update={"clip": profile().clip.model_copy(update=clip)})


@pytest.mark.parametrize("score", [0.9, 0.999])
def test_a_highlight_that_reaches_out_of_the_repair_is_neither_cut_down_to_it_nor_told_twice(
    score: float,
) -> None:
    first = candidate(6, 103, start_s=97, end_s=104, title="A goal from far")
    late = late_candidate(0, 105, start_s=102, end_s=110, score=score, title="Beaten at the near post")

    _, outputs, _ = run((*whole_run(7, (first,)), *whole_repair(late)), given=narrow())

    assert [0] == [each.revision for each in highlights(outputs)]
    assert ["merged"] == rules_of(outputs, late)


def test_the_same_moment_wholly_inside_the_repair_is_revised() -> None:
    first = candidate(6, 110, start_s=108, end_s=112)
    late = late_candidate(0, 111, start_s=109, end_s=134, score=0.9)
    wide = late.model_copy(update={"index": repair_index(GAP, 0), "end_us": us(119.5)})
    _, outputs, _ = run((*whole_run(8, (first,)), *whole_repair(wide)), given=narrow())

    assert [0, 1] == [each.revision for each in highlights(outputs)]
    assert 1 == len({each.highlight_id for each in highlights(outputs)})


def test_what_was_judged_is_not_judged_again() -> None:
    late = late_candidate(0, 110)
    inputs = (*whole_run(1, ()), *whole_repair(late))

    state, outputs, standing = run(inputs, given=profile())
    again, more, _ = run(whole_repair(late), state=state, standing=standing, given=profile())

    assert (state, [], {"late"}) == (again, outcome(more), set(notes(more)))
    assert 2 == len(final_of(outputs))


def test_a_repair_that_failed_is_only_noted() -> None:
    state, outputs, _ = run((*whole_run(1, ()), repair_ended(0)), given=profile())

    assert (["repair"], ()) == (notes(outputs), state.repairs)


def test_a_repair_waits_for_the_end_of_its_run() -> None:
    late = late_candidate(0, 110)
    base = whole_run(2, ())

    state, outputs, standing = run((*base[:-1], *whole_repair(late)), given=profile())
    assert ([], None) == (highlights(outputs), state.blocked_on)
    _, more, _ = run(base[-1:], state=state, standing=standing, given=profile())

    assert 1 == len(highlights(more))
    assert [0, 2] == [each.revision for each in final_of(more)]


def test_a_window_of_a_repair_that_stays_away_is_lost_at_its_deadline() -> None:
    state, _, standing = run((*whole_run(1, ()), *whole_repair()[2:]), given=profile())
    expired = overdue(state)

    assert expired == WindowLost(run=0, index=repair_index(GAP, 0), revision=1)
    _, outputs, _ = run((expired,), state=state, standing=standing, given=profile())

    assert (1, 1) == (final_of(outputs)[-1].windows_failed, len(final_of(outputs)))


def test_a_window_of_a_repair_without_verdict_has_failed_at_its_deadline() -> None:
    state, _, _ = run((*whole_run(1, ()), late_window(0, 100, 120), repair_ended(1)), given=profile())

    assert overdue(state) == WindowExpired(run=0, index=repair_index(GAP, 0), revision=1)
    assert is_awaited(state, repair_index(GAP, 0))
    assert not is_awaited(state, 0)


def test_two_repairs_of_one_gap_are_both_judged() -> None:
    first, second = late_candidate(0, 105), late_candidate(0, 190, revision=2)
    again = (
        late_window(0, 180, 200, revision=2),
        second,
        late_verdict(0, (second,), revision=2),
        repair_ended(1, revision=2),
    )

    state, outputs, _ = run((*whole_run(1, ()), *whole_repair(first), *again), given=profile())

    assert 2 == len(highlights(outputs))
    assert [1, 3, 2] == [each.windows_analysed for each in final_of(outputs)]  # the later takes the place
    assert [0, 2, 3] == [each.revision for each in final_of(outputs)]
    assert ((GAP, 1), (GAP, 2)) == state.repaired


def test_nothing_comes_out_of_a_closed_stream() -> None:
    late = late_candidate(0, 110)

    _, outputs, _ = run((*whole_run(1, ()), Closed(), *whole_repair(late)), given=profile())

    assert [] == highlights(outputs)
    assert {"closed"} == set(notes(outputs))
