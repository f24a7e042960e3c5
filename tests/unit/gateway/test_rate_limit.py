"""Which budgets apply, and what their counts mean."""

from itertools import count as numbers

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.rate_limit import (
    Allowance,
    Budget,
    Count,
    LimitPolicy,
    RateLimitExceeded,
    Subject,
    Taken,
    budget_of_address,
    budgets_of_key,
    network_of,
    standing_of,
    verdict_of,
)

POLICY = LimitPolicy(default=1000, registration=600)
HOUR_MS = 3_600_000
KEY = Budget(Subject.KEY, "key_1", 4)
ORGANIZATION = Budget(Subject.ORGANIZATION, "org_1", 40)


@pytest.mark.parametrize(
    ("allowance", "key", "organization"),
    [
        (Allowance("starter", None, None), 1000, 10_000),
        (Allowance("professional", None, None), 10_000, 100_000),
        (Allowance("enterprise", None, None), 100_000, 1_000_000),
        (Allowance("unheard of", None, None), 1000, 10_000),
        (Allowance("starter", 50, None), 50, 10_000),
        (Allowance("starter", 5000, 2000), 5000, 2000),
    ],
)
def test_own_limits_come_before_those_of_the_plan(allowance: Allowance, key: int, organization: int) -> None:
    budgets = budgets_of_key(POLICY, allowance, key_id="key_1", organization_id="org_1")

    assert [("key:key_1", key), ("organization:org_1", organization)] == [
        (budget.name, budget.limit) for budget in budgets
    ]


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("testclient", "unknown"),
        (None, "unknown"),
    ],
)
def test_addresses_of_one_network_count_together(host: str | None, network: str) -> None:
    budget = budget_of_address(host, purpose="registration", limit=5)

    assert network == network_of(host)
    assert f"address:registration:{network}" == budget.name


def test_requests_of_the_window_before_fade_evenly() -> None:
    used = [Count(4, 0, elapsed_ms).used(HOUR_MS) for elapsed_ms in (0, 1, HOUR_MS // 2, HOUR_MS - 1)]

    assert [4, 3, 2, 0] == used


def test_after_a_burst_the_first_request_fits_when_its_window_has_passed() -> None:
    standing = standing_of(KEY, Count(0, 4, 600_000))

    assert (0, HOUR_MS - 600_000 + 1) == (standing.remaining, standing.more_in_ms)


def test_then_they_come_back_one_by_one() -> None:
    standing = standing_of(KEY, Count(4, 1, 1))

    assert (0, HOUR_MS // 4) == (standing.remaining, standing.more_in_ms)


def test_an_untouched_budget_has_nothing_to_wait_for() -> None:
    standing = standing_of(KEY, Count(0, 0, 0))

    assert (4, 0) == (standing.remaining, standing.more_in_ms)


def test_a_limit_that_was_lowered_is_waited_for_until_a_request_fits() -> None:
    standing = standing_of(KEY, Count(0, 8, 0))

    assert 0 == standing.remaining
    assert 3 == Count(8, 0, standing.more_in_ms - HOUR_MS).used(HOUR_MS)


@given(
    previous=st.integers(0, 50),
    current=st.integers(0, 50),
    limit=st.integers(1, 60),
    elapsed_ms=st.integers(0, 999),
)
def test_the_wait_ends_at_the_very_millisecond(
    previous: int, current: int, limit: int, elapsed_ms: int
) -> None:
    count = Count(previous, current, elapsed_ms)
    standing = standing_of(Budget(Subject.KEY, "key_1", limit, window_s=1), count)

    def room(after_ms: int) -> int:
        passed, elapsed = divmod(elapsed_ms + after_ms, 1000)
        then = (Count(previous, current, elapsed), Count(current, 0, elapsed), Count(0, 0, 0))[min(passed, 2)]
        return limit - then.used(1000)

    now = max(0, room(0))
    expected = next(ms for ms in numbers() if room(ms) > now or room(ms) == limit)
    assert (now, expected) == (standing.remaining, standing.more_in_ms)


def test_the_tightest_budget_is_told() -> None:
    accepted = verdict_of((KEY, ORGANIZATION), Taken(True, (Count(0, 1, 0), Count(0, 38, 0)), 0))
    refused = verdict_of((KEY, ORGANIZATION), Taken(False, (Count(0, 1, 0), Count(0, 40, 0)), 0))

    assert (True, ORGANIZATION, 2) == (
        accepted.allowed,
        accepted.tightest.budget,
        accepted.tightest.remaining,
    )
    assert (False, ORGANIZATION, 0) == (refused.allowed, refused.tightest.budget, refused.tightest.remaining)


def test_of_two_that_refuse_the_one_that_lasts_longer_is_told() -> None:
    counts = (Count(0, 4, 3_000_000), Count(0, 40, 0))

    verdict = verdict_of((KEY, ORGANIZATION), Taken(False, counts, now_ms=1_800_000_000_000))

    assert ORGANIZATION == verdict.tightest.budget
    assert (3601, 1_800_003_601) == (verdict.more_in_s, verdict.reset_at_s)


def test_a_refusal_says_who_may_do_what_and_when() -> None:
    verdict = verdict_of((KEY,), Taken(False, (Count(0, 4, 3_590_000),), 0))

    error = RateLimitExceeded(verdict)

    assert "Rate limit exceeded: this API key may make 4 requests per hour. Try again in 11 s" == str(error)
    assert (Subject.KEY, 11) == (error.subject, error.retry_after_s)
