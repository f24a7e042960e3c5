"""Which storage counts when one is away, and that none of them stops a request."""

import pytest
from prometheus_client import Counter

from gateway.domain.rate_limit import Budget, LimitPolicy, RateLimitExceeded, Subject
from gateway.domain.refusals import Unauthenticated
from gateway.workflow.absence import AWAY_S, Absence
from gateway.workflow.authentication import Authentication, StoredKey
from gateway.workflow.rate_limits import LimiterUnavailable, RateLimits, Standby
from shared import metrics
from shared.clock import utc_now
from shared.ids import ApiKeyId
from tests.fakes.gateway.rate_limits import RateLimitsInMemory

BUDGETS = (Budget(Subject.KEY, "key_1", 2),)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class NoKeys:
    async def find(self, key_id: ApiKeyId) -> StoredKey | None:
        return None


def total(counter: Counter, label: str) -> float:
    return sum(
        sample.value
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and label in sample.labels.values()
    )


@pytest.fixture(name="limits")
def _limits() -> tuple[RateLimits, RateLimitsInMemory]:
    storage = RateLimitsInMemory()
    authentication = Authentication(keys=NoKeys(), clock=utc_now)
    policy = LimitPolicy(default=2, registration=1)
    return RateLimits(authentication=authentication, limiter=storage, policy=policy), storage


async def test_the_second_storage_counts_while_the_first_is_away() -> None:
    clock, first, second = Clock(), RateLimitsInMemory("first", away=True), RateLimitsInMemory("second")
    standby = Standby(first, second, absence=Absence(clock=clock))
    before = total(metrics.rate_limit_failures, "first")

    allowed = [(await standby.take(BUDGETS)).allowed for _ in range(3)]

    assert [True, True, False] == allowed
    assert (1, 3) == (first.asked, second.asked)
    assert 1 == total(metrics.rate_limit_failures, "first") - before


async def test_the_first_is_asked_again_after_a_while_and_stays_when_it_is_back() -> None:
    clock, first, second = Clock(), RateLimitsInMemory("first", away=True), RateLimitsInMemory("second")
    standby = Standby(first, second, absence=Absence(clock=clock))
    await standby.take(BUDGETS)

    clock.now += AWAY_S
    await standby.take(BUDGETS)
    await standby.take(BUDGETS)
    first.away = False
    clock.now += AWAY_S
    for _ in range(3):
        await standby.take(BUDGETS)

    assert (5, 3) == (first.asked, second.asked)


async def test_with_both_away_the_caller_of_standby_is_told() -> None:
    standby = Standby(
        RateLimitsInMemory(away=True), RateLimitsInMemory(away=True), absence=Absence(clock=Clock())
    )

    with pytest.raises(LimiterUnavailable):
        await standby.take(BUDGETS)


async def test_closing_closes_both() -> None:
    first, second = RateLimitsInMemory(), RateLimitsInMemory()

    await Standby(first, second, absence=Absence(clock=Clock())).aclose()

    assert first.closed and second.closed


async def test_a_request_that_nobody_can_count_passes_and_is_noted(
    limits: tuple[RateLimits, RateLimitsInMemory],
) -> None:
    rate_limits, storage = limits
    storage.away = True
    before = total(metrics.rate_limit_failures, "memory")

    admissions = [await rate_limits.admit_registration(address="192.0.2.1") for _ in range(3)]

    assert {(None, None)} == {(admission.outcome, admission.verdict) for admission in admissions}
    assert 3 == total(metrics.rate_limit_failures, "memory") - before


async def test_a_stranger_is_told_to_authenticate_until_the_address_has_no_budget(
    limits: tuple[RateLimits, RateLimitsInMemory],
) -> None:
    rate_limits, _ = limits

    outcomes = [(await rate_limits.admit_key(None, address="192.0.2.1")).outcome for _ in range(3)]

    assert [Unauthenticated, Unauthenticated, RateLimitExceeded] == [type(each) for each in outcomes]


async def test_registrations_have_a_budget_of_their_own(
    limits: tuple[RateLimits, RateLimitsInMemory],
) -> None:
    rate_limits, _ = limits
    await rate_limits.admit_key(None, address="192.0.2.1")

    first = await rate_limits.admit_registration(address="192.0.2.1")
    second = await rate_limits.admit_registration(address="192.0.2.1")
    elsewhere = await rate_limits.admit_registration(address="192.0.2.2")

    assert (None, None) == (first.outcome, elsewhere.outcome)
    assert isinstance(second.outcome, RateLimitExceeded)
