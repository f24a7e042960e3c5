"""The breaker: opens after failures in a row, lets one probe through at a time, closes when it succeeds."""

from analyzer.domain.gemini.breaker import Breaker


def opened() -> Breaker:
    breaker = Breaker(failures_to_open=3, open_s=30.0)
    for _ in range(3):
        breaker.failed(100.0)
    return breaker


def test_it_stays_closed_below_the_bound() -> None:
    breaker = Breaker(failures_to_open=3, open_s=30.0)
    breaker.failed(100.0)
    breaker.failed(100.0)

    assert 0.0 == breaker.wait_s(100.0)


def test_a_success_between_failures_starts_the_count_anew() -> None:
    breaker = Breaker(failures_to_open=2, open_s=30.0)
    breaker.failed(100.0)
    breaker.succeeded()
    breaker.failed(100.0)

    assert not breaker.is_open


def test_it_tells_how_long_to_wait() -> None:
    assert 20.0 == opened().wait_s(110.0)


def test_one_probe_goes_through_and_the_others_wait_for_it() -> None:
    breaker = opened()

    assert (0.0, 30.0, 25.0) == (breaker.wait_s(130.0), breaker.wait_s(130.0), breaker.wait_s(135.0))


def test_a_probe_that_fails_keeps_it_open_and_one_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.wait_s(130.0)
    breaker.failed(131.0)
    assert 29.0 == breaker.wait_s(132.0)

    breaker.wait_s(161.0)
    breaker.succeeded()
    assert (0.0, 0.0) == (breaker.wait_s(162.0), breaker.wait_s(162.0))


def test_ten_minutes_of_failure_cost_one_call_in_thirty_seconds() -> None:
    breaker = Breaker()
    calls = 0
    for second in range(600):
        if breaker.wait_s(float(second)) == 0.0:
            calls += 1
            breaker.failed(float(second))

    assert calls <= 6 + 600 / 30


def test_looking_at_it_takes_nobodys_turn() -> None:
    breaker = opened()

    assert (20.0, 0.0, 0.0) == (breaker.rest_s(110.0), breaker.rest_s(130.0), breaker.rest_s(130.0))
    assert 0.0 == breaker.wait_s(130.0)
    assert 30.0 == breaker.rest_s(130.0)
