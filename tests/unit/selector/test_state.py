"""The snapshot of a run."""

from selector.domain.machine import opened
from selector.domain.state import State, forgotten
from tests.unit.selector.run_builder import (
    STREAM,
    candidate,
    ended,
    fold,
    moment,
    profile,
    us,
    whole_run,
    window,
)


def test_a_new_run_waits_for_nothing() -> None:
    assert opened(STREAM, run=2) == State(stream_id=STREAM, run=2)
    assert opened(STREAM, run=2).blocked_on is None


def test_an_offered_window_or_a_known_end_says_what_the_run_waits_for() -> None:
    assert fold((window(0),), profile())[0].blocked_on == 0
    assert fold((window(1),), profile())[0].blocked_on == 0
    assert fold((ended(2),), profile())[0].blocked_on == 0
    assert fold(whole_run(2, ()), profile())[0].blocked_on is None


def test_moments_beyond_every_reach_are_forgotten_unless_they_are_still_to_be_told() -> None:
    told, untold = moment(10, confirmed=True), moment(20)
    state = State(stream_id=STREAM, run=0, frontier_us=us(1000), moments=(told, untold))
    assert forgotten(state, profile=profile()).moments == (untold,)


def test_a_twelve_hour_run_keeps_a_bounded_state() -> None:
    count = 2700
    moments = tuple(candidate(index, index * 16 + 8, score=0.75) for index in range(0, count, 3))
    inputs = whole_run(count, moments)
    early, _ = fold(inputs[: len(inputs) // 10], profile())
    late, _ = fold(inputs[len(inputs) // 10 : -1], profile(), early)
    without_pairs = late.changed(final=early.final)
    assert len(without_pairs.to_json()) < 1.2 * len(early.to_json())
    assert (late.consumed, late.windows) == (count, ())
