"""Counts of the rate limits in Redis, in the keys of the `limits` library's sliding window counter.

The library decides on one limit at a time. A request has several, and all or none must be charged: the script here
is the library's own, over all of them at once.
"""

from collections.abc import Sequence
from typing import cast

from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.domain.rate_limit import Budget, Count, Taken
from gateway.workflow.rate_limits import LimiterUnavailable

KEY_PREFIX = "tldr:rate"
CONNECTIONS = 16
# A request waits no longer than this for a Redis that hangs: PostgreSQL counts instead.
TIMEOUT_S = 1.0
# And no longer than this for a free connection, which says nothing about Redis.
POOL_TIMEOUT_S = 5.0


class RedisRateLimits:
    name = "redis"

    def __init__(self, url: str) -> None:
        """Connects at the first use. A call is never repeated: it may have been counted."""
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=POOL_TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self.storage = RedisStorage(
            f"async+{url}",
            implementation="redispy",
            key_prefix=KEY_PREFIX,
            connection_pool=self._pool,  # type: ignore[arg-type]
        )
        self._bridge = cast("RedispyBridge", self.storage.bridge)
        self._take = self._bridge.get_connection().register_script(_TAKE.encode())

    async def take(self, budgets: Sequence[Budget]) -> Taken:
        keys = [key for budget in budgets for key in self._keys(budget)]
        arguments = [number for budget in budgets for number in (budget.limit, budget.window_s * 1000)]
        try:
            allowed, now_ms, *counts = map(int, await self._take(keys, arguments))
        except (RedisError, OSError) as error:
            raise LimiterUnavailable(f"{type(error).__name__}: {error}") from error
        triples = zip(counts[0::3], counts[1::3], counts[2::3], strict=True)
        return Taken(allowed == 1, tuple(Count(*triple) for triple in triples), now_ms)

    def _keys(self, budget: Budget) -> tuple[str, str]:
        """Of the window before and of the current one, as the library names them."""
        current = f"{{{budget.name}}}"
        return self._bridge.prefixed_key(f"{current}/-1"), self._bridge.prefixed_key(current)

    async def aclose(self) -> None:
        await self._pool.aclose()


# The age of a window is told by what is left of its key's life: two windows when it is made, one when it ends.
_TAKE = """
local allowed = 1
local counts = {}
for i = 1, #KEYS, 2 do
    local limit, window = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
    local left = redis.call('pttl', KEYS[i + 1])
    if left > 0 and left < window then
        redis.call('rename', KEYS[i + 1], KEYS[i])
        left = left + window
        redis.call('set', KEYS[i + 1], 0, 'PX', left)
    end
    local elapsed = left > 0 and 2 * window - left or 0
    local previous = tonumber(redis.call('get', KEYS[i])) or 0
    local current = tonumber(redis.call('get', KEYS[i + 1])) or 0
    if math.floor(previous * (window - elapsed) / window) + current >= limit then
        allowed = 0
    end
    table.insert(counts, previous)
    table.insert(counts, current)
    table.insert(counts, elapsed)
end
if allowed == 1 then
    for i = 1, #KEYS, 2 do
        if redis.call('exists', KEYS[i + 1]) == 1 then
            redis.call('incr', KEYS[i + 1])
        else
            redis.call('set', KEYS[i + 1], 1, 'PX', 2 * tonumber(ARGV[i + 1]))
        end
        local n = (i - 1) / 2 * 3
        counts[n + 2] = counts[n + 2] + 1
    end
end
local now = redis.call('time')
return {allowed, now[1] * 1000 + math.floor(now[2] / 1000), unpack(counts)}
"""
