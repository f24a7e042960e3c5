"""The breaker, and when an endpoint is turned off for good."""

from datetime import UTC, datetime, timedelta

from notifier.domain.delivery import Attempt, Result, State, Verdict
from notifier.domain.health import Health, health_after
from tests.fakes.notifier.claims import claim

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
FAILURE = Verdict(state=State.PENDING, code="bad_status", reason="the endpoint answered 500", delay_s=5.0)
SUCCESS = Verdict(state=State.DELIVERED)


def result(verdict: Verdict, *, minute: int = 0) -> Result:
    return Result(claim(), verdict, Attempt(NOW + timedelta(minutes=minute), 12, 500, ""))


def test_ten_failures_in_a_row_open_the_breaker_to_one_probe_a_minute() -> None:
    nine = health_after(Health(), results=[result(FAILURE, minute=n) for n in range(9)])
    ten = health_after(nine, results=[result(FAILURE, minute=9)])
    assert (nine.failures, nine.pause_s) == (9, 0.0)
    assert (ten.failures, ten.pause_s, ten.failing_since) == (10, 60.0, NOW)


def test_one_success_closes_it() -> None:
    before = Health(failures=15, failing_since=NOW)
    assert health_after(before, results=[result(SUCCESS)]) == Health()


def test_results_count_in_order_of_time() -> None:
    after = health_after(Health(), results=[result(SUCCESS, minute=5), result(FAILURE, minute=1)])
    assert after == Health()


def test_an_overloaded_endpoint_is_paused_at_once() -> None:
    verdict = Verdict(state=State.PENDING, code="bad_status", reason="503", delay_s=9.0, pause_s=9.0)
    assert health_after(Health(), results=[result(verdict)]).pause_s == 9.0


def test_410_turns_the_endpoint_off() -> None:
    gone = Verdict(state=State.DISABLED, code="gone", reason="the endpoint answered 410 Gone", gone=True)
    assert health_after(Health(), results=[result(gone)]).refusal == "the endpoint answered 410 Gone"


def test_five_days_and_twenty_failures_turn_it_off_and_neither_does_alone() -> None:
    five_days = timedelta(days=5)
    long_ago = Health(failures=19, failing_since=NOW - five_days)
    few = Health(failures=18, failing_since=NOW - five_days)
    recent = Health(failures=100, failing_since=NOW - five_days + timedelta(minutes=1))
    assert (
        health_after(long_ago, results=[result(FAILURE)]).refusal
        == "20 attempts in a row have failed over 5 days"
    )
    assert health_after(few, results=[result(FAILURE)]).refusal is None
    assert health_after(recent, results=[result(FAILURE)]).refusal is None


def test_what_was_not_tried_says_nothing() -> None:
    untried = Result(claim(), Verdict(state=State.DISABLED), attempt=None)
    assert health_after(Health(failures=3, failing_since=NOW), results=[untried]).failures == 3
