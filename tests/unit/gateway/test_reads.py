"""Which database answers a read: what is asked of the replica, when it is left alone, and when it is tried again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from structlog.testing import capture_logs

from gateway.workflow.absence import AWAY_S, Absence
from gateway.workflow.reads import FoundT, ReplicaFirst, ReplicaUnavailable
from shared import metrics
from shared.ids import OrganizationId

ORGANIZATION = OrganizationId("org_1")
OUTCOMES = ("answered", "not_found", "failed", "left_aside")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Rows:
    """A database of one row: what it holds, whether it is away, and how often it was asked."""

    row: str | None
    away: bool = False
    asked: int = 0

    async def __call__(
        self, organization_id: OrganizationId, look: Callable[["Rows"], Awaitable[FoundT]]
    ) -> FoundT:
        self.asked += 1
        if self.away:
            raise ReplicaUnavailable("it is away")
        return await look(self)


async def content(rows: Rows) -> str | None:
    return rows.row


@dataclass
class Pair:
    replica: Rows
    primary: Rows = field(default_factory=lambda: Rows("primary"))
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self._read = ReplicaFirst(self.replica, self.primary, absence=Absence(clock=self.clock))

    async def read(self) -> str | None:
        return await self._read(ORGANIZATION, content)


def counted() -> list[float]:
    return [metrics.replica_reads.labels(outcome)._value.get() for outcome in OUTCOMES]


def added(before: list[float]) -> list[float]:
    return [now - then for now, then in zip(counted(), before, strict=True)]


def events(logs: list[Any]) -> list[str]:
    return [entry["event"] for entry in logs]


async def test_what_the_replica_has_is_not_asked_of_the_primary() -> None:
    pair, before = Pair(Rows("replica")), counted()

    assert "replica" == await pair.read()

    assert (0, [1, 0, 0, 0]) == (pair.primary.asked, added(before))


async def test_what_the_replica_does_not_have_is_asked_of_the_primary_and_keeps_it_in_use() -> None:
    pair, before = Pair(Rows(None)), counted()

    assert ["primary", "primary"] == [await pair.read() for _ in range(2)]

    assert (2, [0, 2, 0, 0]) == (pair.replica.asked, added(before))


async def test_a_replica_that_failed_is_left_alone_and_said_once() -> None:
    pair, before = Pair(Rows("replica", away=True)), counted()

    with capture_logs() as logs:
        answers = [await pair.read() for _ in range(3)]

    assert ["primary"] * 3 == answers
    assert (1, [0, 0, 1, 2]) == (pair.replica.asked, added(before))
    assert ["replica_left_aside"] == events(logs)


async def test_it_is_tried_once_in_a_while_and_used_when_it_is_back() -> None:
    pair = Pair(Rows("replica", away=True))
    await pair.read()

    with capture_logs() as logs:
        pair.clock.now += AWAY_S
        still_away = [await pair.read() for _ in range(2)]
        pair.replica.away = False
        pair.clock.now += AWAY_S
        back = [await pair.read() for _ in range(2)]

    assert (["primary"] * 2, ["replica"] * 2) == (still_away, back)
    assert 4 == pair.replica.asked
    assert ["replica_back"] == events(logs)


async def test_while_one_read_tries_it_again_the_others_do_not_wait_for_that() -> None:
    pair = Pair(Rows("replica", away=True))
    await pair.read()
    pair.replica.away = False
    pair.clock.now += AWAY_S

    answers = await asyncio.gather(_slow(pair), pair.read(), pair.read())

    assert ["replica", "primary", "primary"] == answers


async def _slow(pair: Pair) -> str | None:
    async def look(rows: Rows) -> str | None:
        for _ in range(5):
            await asyncio.sleep(0)
        return rows.row

    return await pair._read(ORGANIZATION, look)
