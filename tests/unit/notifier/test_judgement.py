"""What each kind of answer does to a delivery."""

from datetime import UTC, datetime

import pytest

from notifier.domain.delivery import Answer, NoAnswer, State, Verdict
from notifier.domain.judgement import judge, refuse
from tests.fakes.notifier.claims import claim, endpoint

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def verdict_on(outcome: Answer | NoAnswer, *, attempts: int = 0, max_attempts: int = 11) -> Verdict:
    held = claim(attempts=attempts, endpoint=endpoint(max_attempts=max_attempts))
    return judge(outcome, claim=held, at=NOW, spread=0.5)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_only_2xx_delivers(status: int) -> None:
    assert verdict_on(Answer(status)) == Verdict(state=State.DELIVERED)


@pytest.mark.parametrize("status", [199, 301, 302, 307, 308, 400, 401, 404, 500, 501])
def test_every_other_status_is_tried_again_without_slowing_the_endpoint(status: int) -> None:
    verdict = verdict_on(Answer(status))
    assert (verdict.state, verdict.delay_s, verdict.pause_s) == (State.PENDING, 5.0, 0.0)


def test_a_redirect_is_refused_by_name() -> None:
    assert verdict_on(Answer(302)).code == "redirect_refused"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_overloaded_endpoint_is_left_alone_until_the_next_try(status: int) -> None:
    verdict = verdict_on(Answer(status, retry_after="9"))
    assert (verdict.delay_s, verdict.pause_s) == (9.0, 9.0)


def test_a_pause_is_never_longer_than_a_minute() -> None:
    assert verdict_on(Answer(503), attempts=8).pause_s == 60.0


def test_410_disables_the_endpoint() -> None:
    verdict = verdict_on(Answer(410))
    assert (verdict.state, verdict.gone, verdict.code) == (State.DISABLED, True, "gone")


def test_silence_is_tried_again() -> None:
    verdict = verdict_on(NoAnswer("http_timeout", "no answer in time", permanent=False))
    assert (verdict.state, verdict.code) == (State.PENDING, "http_timeout")


def test_a_blocked_address_fails_at_once_and_says_why() -> None:
    verdict = verdict_on(NoAnswer("address_blocked", "10.0.0.1 is not a public address", permanent=True))
    assert verdict == Verdict(
        state=State.FAILED, code="address_blocked", reason="10.0.0.1 is not a public address"
    )


@pytest.mark.parametrize(("attempts", "state"), [(1, State.PENDING), (2, State.FAILED)])
def test_the_endpoints_own_number_of_attempts_ends_the_tries(attempts: int, state: State) -> None:
    assert verdict_on(Answer(500), attempts=attempts, max_attempts=3).state is state


def test_an_endpoint_that_is_off_ends_its_deliveries() -> None:
    assert refuse("switched off").state is State.DISABLED
