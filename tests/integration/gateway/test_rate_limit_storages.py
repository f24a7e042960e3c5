"""One contract for both storages of the rate limits: PostgreSQL and Redis decide alike, exactly, and together."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from gateway.adapters.postgres_rate_limits import PostgresRateLimits
from gateway.adapters.redis_rate_limits import KEY_PREFIX, RedisRateLimits
from gateway.domain.rate_limit import HOUR_S, Budget, Subject, Taken, standing_of
from gateway.workflow.rate_limits import Limiter, LimiterUnavailable
from localcluster.redis import RedisServer
from shared.database import Database
from tests.fakes.gateway.rate_limits import RateLimitsInMemory


@dataclass(frozen=True)
class Storage:
    """Two replicas' limiters on one storage, and a way to let time pass in it."""

    replicas: tuple[Limiter, Limiter]
    let_pass: Callable[[Budget, int], Awaitable[None]]

    async def take(self, *budgets: Budget) -> Taken:
        return await self.replicas[0].take(budgets)

    async def take_at_once(self, *budgets: Budget, times: int) -> int:
        """How many of so many requests pass that come at the same time to both replicas."""
        calls = [self.replicas[number % 2].take(budgets) for number in range(times)]
        return sum(taken.allowed for taken in await asyncio.gather(*calls))


@pytest.fixture(params=["postgresql", "redis"])
def storage(request: pytest.FixtureRequest) -> Storage:
    found: Storage = request.getfixturevalue(f"{request.param}_storage")
    return found


@pytest.fixture
async def postgresql_storage(gateway_database: Database) -> AsyncIterator[Storage]:
    second = Database(gateway_database.url, schema="gateway", pool_size=4)

    async def let_pass(budget: Budget, milliseconds: int) -> None:
        async with gateway_database.transaction() as session:
            moved = "UPDATE rate_limits SET started_ms = started_ms - :ms WHERE subject = :subject"
            values = {"ms": milliseconds, "subject": budget.name}
            await (await session.connection()).execute(text(moved), values)

    yield Storage((PostgresRateLimits(gateway_database), PostgresRateLimits(second)), let_pass)
    await second.close()


@pytest.fixture
async def redis_storage(redis_server: RedisServer) -> AsyncIterator[Storage]:
    first, second = RedisRateLimits(redis_server.url), RedisRateLimits(redis_server.url)

    async with Redis.from_url(redis_server.url) as client:

        async def let_pass(budget: Budget, milliseconds: int) -> None:
            current = f"{KEY_PREFIX}:{{{budget.name}}}"
            for key in (current, f"{current}/-1"):
                left = await client.pttl(key)
                if left > 0:
                    await client.pexpire(key, max(0, left - milliseconds))

        yield Storage((first, second), let_pass)
    await first.aclose()
    await second.aclose()


def budget(limit: int, *, subject: Subject = Subject.KEY, window_s: int = HOUR_S) -> Budget:
    return Budget(subject, secrets.token_hex(8), limit, window_s)


async def test_of_500_at_once_exactly_the_limit_passes(storage: Storage) -> None:
    key, organization = budget(100), budget(1000, subject=Subject.ORGANIZATION)

    passed = await storage.take_at_once(key, organization, times=500)

    assert 100 == passed


async def test_of_many_keys_at_once_exactly_the_organizations_limit_passes(storage: Storage) -> None:
    first, second, organization = budget(60), budget(60), budget(100, subject=Subject.ORGANIZATION)

    passed = await asyncio.gather(
        storage.take_at_once(first, organization, times=150),
        storage.take_at_once(second, organization, times=150),
    )
    after = [(await storage.take(key, organization)).counts for key in (first, second)]

    assert 100 == sum(passed)
    assert max(passed) <= 60
    assert [(passed[0], 100), (passed[1], 100)] == [(key.current, all_.current) for key, all_ in after]


async def test_a_refusal_by_the_organization_costs_the_key_nothing(storage: Storage) -> None:
    key, other, organization = budget(5), budget(5), budget(2, subject=Subject.ORGANIZATION)
    for _ in range(2):
        assert (await storage.take(other, organization)).allowed

    taken = await storage.take(key, organization)

    assert (False, 0, 2) == (taken.allowed, *(count.current for count in taken.counts))
    assert 1 == (await storage.take(key)).counts[0].current


async def test_a_refusal_by_the_key_costs_the_organization_nothing(storage: Storage) -> None:
    key, organization = budget(1), budget(5, subject=Subject.ORGANIZATION)
    assert (await storage.take(key, organization)).allowed

    taken = await storage.take(key, organization)

    assert (False, 1, 1) == (taken.allowed, *(count.current for count in taken.counts))
    assert 2 == (await storage.take(organization)).counts[0].current


async def test_the_budget_comes_back_bit_by_bit_when_its_window_has_passed(storage: Storage) -> None:
    key = budget(4)
    for _ in range(4):
        assert (await storage.take(key)).allowed
    refused = await storage.take(key)
    wait_ms = standing_of(key, refused.counts[0]).more_in_ms

    await storage.let_pass(key, wait_ms - 60_000)
    too_early = await storage.take(key)
    await storage.let_pass(key, 60_000)
    in_time = [(await storage.take(key)).allowed for _ in range(2)]
    await storage.let_pass(key, HOUR_S * 1000 // 2)
    later = [(await storage.take(key)).allowed for _ in range(3)]

    assert (False, False) == (refused.allowed, too_early.allowed)
    assert [True, False] == in_time
    assert [True, True, False] == later


async def test_after_two_idle_windows_all_of_the_budget_is_back(storage: Storage) -> None:
    key = budget(3)
    for _ in range(3):
        await storage.take(key)

    await storage.let_pass(key, 2 * HOUR_S * 1000)

    assert 3 == await storage.take_at_once(key, times=10)


async def test_the_storages_own_clock_gives_it_back_when_the_verdict_said(storage: Storage) -> None:
    key = budget(2, window_s=1)
    assert 2 == await storage.take_at_once(key, times=2)
    refusals = [await storage.take(key)]
    back_at_ms = refusals[0].now_ms + standing_of(key, refusals[0].counts[0]).more_in_ms

    async with asyncio.timeout(30):
        while not (taken := await storage.take(key)).allowed:
            refusals.append(taken)

    # Redis decides by one reading of its clock and tells the next, which may be a millisecond later.
    assert max(refusal.now_ms for refusal in refusals) <= back_at_ms <= taken.now_ms


async def test_both_decide_as_the_model_does(storage: Storage) -> None:
    chance = random.Random(7)
    key, organization = budget(12), budget(20, subject=Subject.ORGANIZATION)
    model = RateLimitsInMemory()
    passed_ms, began_ms = model.now_ms, 0
    for _ in range(120):
        taken = await storage.take(key, organization)
        began_ms = began_ms or taken.now_ms
        model.now_ms = passed_ms + taken.now_ms - began_ms  # the test takes time, too
        expected = await model.take((key, organization))
        counts = [[(count.previous, count.current) for count in each.counts] for each in (expected, taken)]
        assert (expected.allowed, counts[0]) == (taken.allowed, counts[1])
        passing_ms = int(chance.expovariate(1 / 400_000))
        passed_ms += passing_ms
        for each in (key, organization):
            await storage.let_pass(each, passing_ms)


async def test_an_hour_of_the_past_is_forgotten_and_what_counts_is_kept(gateway_database: Database) -> None:
    limiter = PostgresRateLimits(gateway_database)
    old, new = budget(5), budget(5)
    for each in (old, new):
        await limiter.take((each,))
    async with gateway_database.transaction() as session:
        aged = text(
            "UPDATE rate_limits SET started_ms = started_ms - 2 * window_ms - 1 WHERE subject = :name"
        )
        await (await session.connection()).execute(aged, {"name": old.name})

    more = await limiter.prune()

    async with gateway_database.transaction() as session:
        left = await (await session.connection()).execute(text("SELECT subject FROM rate_limits"))
    assert (False, [new.name]) == (more, list(left.scalars()))


async def test_what_a_wrong_clock_wrote_refuses_nobody_for_long(gateway_database: Database) -> None:
    limiter = PostgresRateLimits(gateway_database)
    one, other = budget(1), budget(1)
    for each in (one, other):
        await limiter.take((each,))
    async with gateway_database.transaction() as session:
        ahead = "UPDATE rate_limits SET started_ms = started_ms + 100 * window_ms WHERE subject = :name"
        await (await session.connection()).execute(text(ahead), {"name": one.name})

    await limiter.prune()

    assert [True, False] == [(await limiter.take((each,))).allowed for each in (one, other)]


async def test_redis_counts_where_the_library_counts(redis_server: RedisServer) -> None:
    limiter, key = RedisRateLimits(redis_server.url), budget(4)
    await limiter.take((key,))

    by_library = await limiter.storage.acquire_sliding_window_entry(key.name, key.limit, key.window_s)
    previous, _, current, _ = await limiter.storage.get_sliding_window(key.name, key.window_s)
    taken = [await limiter.take((key,)) for _ in range(3)]
    refused = await limiter.storage.acquire_sliding_window_entry(key.name, key.limit, key.window_s)
    await limiter.aclose()

    assert (True, 0, 2) == (by_library, previous, current)
    assert [(True, 3), (True, 4), (False, 4)] == [(each.allowed, each.counts[0].current) for each in taken]
    assert not refused


async def test_a_redis_that_hangs_is_given_up_within_its_patience(redis_server: RedisServer) -> None:
    limiter = RedisRateLimits(redis_server.url)
    await limiter.take((budget(4),))
    redis_server.freeze()
    try:
        async with asyncio.timeout(5):
            with pytest.raises(LimiterUnavailable):
                await limiter.take((budget(4),))
    finally:
        redis_server.thaw()
        await limiter.aclose()


async def test_a_redis_that_lost_its_scripts_gets_them_again(redis_server: RedisServer) -> None:
    limiter, key = RedisRateLimits(redis_server.url), budget(4)
    await limiter.take((key,))
    async with Redis.from_url(redis_server.url) as client:
        await client.script_flush()

    taken = await limiter.take((key,))
    await limiter.aclose()

    assert 2 == taken.counts[0].current
