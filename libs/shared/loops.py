"""What runs by itself in a service: a named loop of turns, and the two loops that every service has.

The supervisor that survives failing turns stands in `runtime.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy import text

from shared import inbox, metrics, outbox
from shared.broker import BrokerUnavailable, EventRefused, Publisher
from shared.contract import Service
from shared.database import Database
from shared.epoch import Epoch
from shared.inbox import Delivery
from shared.middleware import Middleware, Subscription

log = structlog.get_logger()

SWEEP_LIMIT = 32


@dataclass(frozen=True)
class Loop:
    """`turn` returns True when more work waits. Otherwise the next turn comes after `pause_s` or at `wake`."""

    name: str
    turn: Callable[[], Awaitable[bool]]
    pause_s: float
    wake: asyncio.Event | None = None


class Relay:
    """Publishes what the outbox holds, in order of writing, in batches that are confirmed together."""

    def __init__(
        self,
        *,
        service: Service,
        database: Database,
        publisher: Publisher,
        epoch: Epoch,
        outbox: outbox.Outbox,
    ) -> None:
        self._service = service
        self._database = database
        self._publisher = publisher
        self._epoch = epoch
        self._outbox = outbox
        self._after_seq = 0

    def loop(self) -> Loop:
        return Loop("relay", self.turn, pause_s=1.0, wake=self._outbox.wake)

    async def turn(self) -> bool:
        self._outbox.wake.clear()
        await self._epoch.ensure()
        async with self._database.transaction() as session:
            connection = await session.connection()
            rows = await outbox.take_pending(connection, after_seq=self._after_seq)
            results = await asyncio.gather(*map(self._publish, rows))
            confirmed = [row for row, error in zip(rows, results, strict=True) if error is None]
            await outbox.mark_published(connection, confirmed)
        return self._look_behind(rows, [error for error in results if error is not None])

    def _look_behind(self, rows: Sequence[outbox.Outgoing], errors: Sequence[BrokerUnavailable]) -> bool:
        """Go on behind rows that nobody takes, and try those again when all others are through."""
        full = len(rows) == outbox.BATCH
        refused = all(isinstance(error, EventRefused) for error in errors)
        if full and refused:
            self._after_seq = rows[-1].seq if len(errors) == len(rows) else self._after_seq
            return True
        self._after_seq = 0
        for error in errors:
            raise error
        return full

    async def _publish(self, row: outbox.Outgoing) -> BrokerUnavailable | None:
        try:
            await self._publisher.publish(row)
        except BrokerUnavailable as error:
            self._epoch.doubt()
            metrics.outbox_failures.labels(self._service, type(error.__cause__).__name__).inc()
            return error
        metrics.outbox_published.labels(self._service, row.event_name).inc()
        return None


class Sweeper:
    """Runs inbox rows again whose retry is due or whose holder died."""

    def __init__(
        self, *, database: Database, middleware: Middleware, subscriptions: Mapping[str, Subscription]
    ) -> None:
        self._database = database
        self._middleware = middleware
        self._subscriptions = subscriptions
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    def loop(self) -> Loop:
        return Loop("sweeper", self.turn, pause_s=1.0)

    async def turn(self) -> bool:
        free = SWEEP_LIMIT - len(self._running)
        if free <= 0:
            return False
        async with self._database.transaction() as session:
            due = await inbox.take_due(
                await session.connection(), limit=SWEEP_LIMIT, event_names=self._subscriptions.keys()
            )
        for delivery in [each for each in due if _key(each) not in self._running][:free]:
            self._start(delivery)
        return False

    def _start(self, delivery: Delivery) -> None:
        key, subscription = _key(delivery), self._subscriptions[delivery.event_name]
        task = asyncio.create_task(self._middleware.handle(subscription, delivery))
        self._running[key] = task
        task.add_done_callback(lambda _done: self._running.pop(key, None))

    async def stop(self, *, grace_s: float) -> None:
        """Let what runs finish for a while, then cancel it; its leases are given back."""
        tasks = list(self._running.values())
        if not tasks:
            return
        _done, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.event_name, str(delivery.event_id)


class Maintenance:
    """Makes partitions ahead, drops finished ones, and keeps the gauges of inbox and outbox true."""

    def __init__(self, *, service: Service, database: Database) -> None:
        self._service = service
        self._database = database
        self._partitions_day = ""

    def loop(self) -> Loop:
        return Loop("maintenance", self.turn, pause_s=10.0)

    async def turn(self) -> bool:
        today = datetime.now(UTC).date().isoformat()
        async with self._database.transaction() as session:
            connection = await session.connection()
            if today != self._partitions_day:
                await connection.execute(text("SELECT maintain_partitions()"))
            metrics.inbox_parked.labels(self._service).set(await inbox.count_parked(connection))
            metrics.outbox_pending.labels(self._service).set(await outbox.count_pending(connection))
        self._partitions_day = today
        return False
