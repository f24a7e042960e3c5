"""The floor: an asyncio loop that polls, hashes, writes, and leaves one row and one confirmed event per segment.

Run by `ingest_live.py`. It knows no gap, no reset, no lease and no retry; what it costs is what the bytes cost.
"""

import argparse
import asyncio
import hashlib
import time
from pathlib import Path

import aio_pika
import aiohttp
import asyncpg
import uvloop
from aio_pika.abc import AbstractExchange
from ingest_schedule import SEGMENT_S

QUEUE = "bench-minimal"
INSERT = "INSERT INTO bench_segments (run, stream, sequence, key, sha256, size_bytes) VALUES ($1, $2, $3, $4, $5, $6)"


class MinimalLoop:
    def __init__(
        self,
        *,
        run: str,
        folder: Path,
        session: aiohttp.ClientSession,
        pool: "asyncpg.Pool[asyncpg.Record]",
        exchange: AbstractExchange,
    ) -> None:
        self._run = run
        self._folder = folder
        self._session = session
        self._pool = pool
        self._exchange = exchange

    async def follow(self, stream: int, url: str) -> None:
        """Poll when the next segment should be there; after a miss a tenth of a segment later."""
        newest, base = -1, url.rpartition("/")[0]
        while True:
            began_s = time.monotonic()
            async with self._session.get(url) as answer:
                listed = _listed(await answer.text())
            fresh = [(sequence, name) for sequence, name in listed if sequence > newest]
            for sequence, name in fresh:
                await self._archive(stream, sequence, f"{base}/{name}")
                newest = sequence
            pause_s = SEGMENT_S - 0.02 if fresh else 0.1 * SEGMENT_S
            await asyncio.sleep(max(0.0, began_s + pause_s - time.monotonic()))

    async def _archive(self, stream: int, sequence: int, url: str) -> None:
        path = self._folder / f"{self._run}-{stream}-{sequence}.ts"
        digest, size_bytes = hashlib.sha256(), 0
        async with self._session.get(url) as answer:
            with path.open("wb") as target:
                async for chunk in answer.content.iter_any():
                    digest.update(chunk)
                    target.write(chunk)
                    size_bytes += len(chunk)
        await self._pool.execute(
            INSERT, self._run, stream, sequence, str(path), digest.hexdigest(), size_bytes
        )
        body = f'{{"stream": {stream}, "sequence": {sequence}, "sha256": "{digest.hexdigest()}"}}'
        message = aio_pika.Message(body.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self._exchange.publish(message, routing_key=QUEUE)


def _listed(text: str) -> list[tuple[int, str]]:
    lines = text.splitlines()
    first = next(int(line.partition(":")[2]) for line in lines if line.startswith("#EXT-X-MEDIA-SEQUENCE"))
    names = [line for line in lines if line and not line.startswith("#")]
    return list(enumerate(names, first))


async def main(options: argparse.Namespace) -> None:
    connection = await aio_pika.connect_robust(options.rabbitmq)
    channel = await connection.channel(publisher_confirms=True)
    await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    pool = await asyncpg.create_pool(options.database, min_size=5, max_size=5)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session, pool:
        loop = MinimalLoop(
            run=options.run,
            folder=options.folder,
            session=session,
            pool=pool,
            exchange=channel.default_exchange,
        )
        streams = range(options.streams)
        await asyncio.gather(*(loop.follow(n, f"{options.url}/{n}/live.m3u8") for n in streams))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--run", "--url", "--database", "--rabbitmq"):
        parser.add_argument(name, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--streams", type=int, required=True)
    uvloop.run(main(parser.parse_args()))
