"""Sealing of windows."""

from selector.domain.inputs import WindowExpired, WindowInput, WindowLost
from selector.domain.window import OpenWindow, add, add_to
from shared.events import Verdict
from tests.unit.selector.run_builder import candidate, verdict, window

ONE, TWO = candidate(0, 5), candidate(0, 15, ordinal=1)


def _with(*given: WindowInput) -> OpenWindow:
    held = OpenWindow(index=0)
    for each in given:
        held = add(held, each)
    return held


def test_a_window_is_sealed_when_offer_verdict_and_all_named_candidates_are_in() -> None:
    assert _with(window(0), verdict(0, (ONE, TWO)), ONE, TWO).sealed is True


def test_a_window_without_one_of_its_named_candidates_is_not_sealed() -> None:
    assert _with(window(0), verdict(0, (ONE, TWO)), ONE).sealed is False


def test_a_window_without_offer_or_verdict_is_not_sealed() -> None:
    assert _with(verdict(0)).sealed is False
    assert _with(window(0), ONE).sealed is False


def test_an_expired_incomplete_window_has_failed_with_the_reason_of_its_deadline() -> None:
    held = _with(window(0), verdict(0, (ONE,)), WindowExpired(run=0, index=0))
    assert (held.sealed, held.outcome) == (True, (Verdict.FAILED, "timeout"))


def test_an_expired_window_is_not_sealed_before_its_offer_and_a_lost_one_is() -> None:
    assert _with(WindowExpired(run=0, index=0)).sealed is False
    assert _with(WindowLost(run=0, index=0)).outcome == (Verdict.FAILED, "lost")
    assert _with(WindowLost(run=0, index=0)).sealed is True


def test_a_window_that_completes_before_its_turn_keeps_its_verdict_although_it_expired() -> None:
    held = _with(WindowExpired(run=0, index=0), window(0), verdict(0, (ONE,)), ONE)
    assert held.outcome == (Verdict.ANALYSED, "")


def test_a_candidate_that_the_verdict_does_not_name_is_a_stray() -> None:
    held = _with(window(0), ONE, TWO, verdict(0, (ONE,)))
    assert (held.named_candidates, held.strays) == ((ONE,), (TWO,))


def test_duplicates_leave_a_window_as_it_is() -> None:
    once = _with(window(0), ONE, verdict(0, (ONE,)))
    assert _with(window(0), ONE, ONE, verdict(0, (ONE,)), window(0), verdict(0, (ONE,))) == once


def test_open_windows_are_held_in_order_of_index() -> None:
    windows = add_to(add_to(add_to((), window(2)), window(0)), verdict(2))
    assert [each.index for each in windows] == [0, 2]
