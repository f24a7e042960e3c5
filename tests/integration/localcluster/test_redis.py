"""A real Redis: started, killed, started again on the same port."""

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from localcluster import binaries
from localcluster.children import scratch_folder
from localcluster.redis import RedisServer

pytestmark = pytest.mark.skipif(
    binaries.find("redis-server") is None, reason="redis-server is not installed: run `make install`"
)


async def test_a_killed_server_comes_back_empty_on_the_same_address() -> None:
    with scratch_folder() as folder:
        server = RedisServer(folder / "redis")
        server.start()
        url = server.url
        try:
            async with Redis.from_url(url) as client:
                await client.set("a", "1")
                server.kill()
                with pytest.raises(RedisConnectionError):
                    await client.get("a")
                server.start()
                found = await client.get("a")
        finally:
            server.stop()

    assert (None, url) == (found, server.url)
    assert not server.is_running
