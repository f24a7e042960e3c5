"""Where a webhook goes while PostgreSQL is there, away or slow, and what becomes of what was kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from gateway.domain.hundredms_connection import Checks, Connection, secret_hash
from gateway.domain.hundredms_signature import signature_of
from gateway.domain.refusals import Forbidden, Malformed, Unauthenticated
from gateway.workflow.hundredms import Hundredms, connection_context
from gateway.workflow.hundredms_gate import REMEMBERED_FOR, Gate
from gateway.workflow.hundredms_reception import MAX_ATTEMPTS, Backlog, Reception
from shared.broker import BrokerUnavailable
from shared.errors import RetryableError
from shared.ids import ConnectionId, OrganizationId
from shared.keyring import Keyring, generate_key
from tests.fakes.gateway.hundredms import FakeConnections, FakeHundredms
from tests.fakes.gateway.hundredms_queue import FakeWebhookQueue

CONNECTION, SECRET, BODY = ConnectionId("con_1"), "the-secret-of-the-connection", b'{"type": "x"}'
RIGHT, WRONG = {"X-TLDR-Secret": SECRET}, {"X-TLDR-Secret": "another-secret-of-16"}
STORED = Connection(
    connection_id=CONNECTION,
    organization_id=OrganizationId("org_1"),
    secret_header="X-TLDR-Secret",
    secret_hashes=(secret_hash(SECRET),),
    options={},
    live=True,
)


@dataclass
class World:
    connections: FakeConnections = field(default_factory=lambda: FakeConnections((STORED,)))
    hundredms: FakeHundredms = field(default_factory=FakeHundredms)
    queue: FakeWebhookQueue = field(default_factory=FakeWebhookQueue)
    keyring: Keyring = field(default_factory=lambda: Keyring([generate_key()]))
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    ours: bool = True

    def __post_init__(self) -> None:
        self.gate = Gate(connections=self.connections, keyring=self.keyring, clock=lambda: self.now)
        self.reception = Reception(
            gate=self.gate,
            hundredms=cast("Hundredms", self.hundredms),
            kept=self.queue,
            keyring=self.keyring,
            clock=lambda: self.now,
            within_s=0.05,
            patience_s=5.0,
        )
        self.backlog = Backlog(
            turns=self._turn,
            kept=self.queue,
            gate=self.gate,
            hundredms=cast("Hundredms", self.hundredms),
            keyring=self.keyring,
        )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[bool]:
        yield self.ours

    async def send(
        self, headers: dict[str, str], *, path: ConnectionId | None = CONNECTION, **more: Any
    ) -> None:
        values: dict[str, Any] = {"body": BODY, "peer": "10.0.0.1", **more}
        await self.reception.receive(path, headers=headers, **values)

    @property
    def bodies(self) -> list[bytes]:
        return [webhook.body for _connection, webhook in self.hundredms.received]


async def test_while_the_database_answers_nothing_goes_into_the_queue() -> None:
    world = World()

    await world.send(RIGHT)

    [(connection, webhook)] = world.hundredms.received
    assert (connection, webhook.received_at) == (STORED, world.now)
    assert world.queue.sealed == []


@pytest.mark.parametrize("fault", ["away", "hangs"])
async def test_what_the_database_cannot_take_is_kept_sealed(fault: str) -> None:
    world = World()
    setattr(world.connections, fault, True)

    await world.send(RIGHT, body=b'{"url": "https://hidden"}')

    [sealed] = world.queue.sealed
    assert SECRET not in sealed
    assert world.hundredms.received == []


async def test_other_things_that_are_away_keep_it_too() -> None:
    world = World()
    world.hundredms.failure = RetryableError("the object store is away")

    await world.send(RIGHT)

    assert len(world.queue.sealed) == 1


async def test_without_database_and_broker_the_sender_is_told_to_come_again() -> None:
    world = World()
    world.connections.away = world.queue.away = True

    with pytest.raises(BrokerUnavailable):
        await world.send(RIGHT)


async def test_without_the_broker_a_slow_database_is_waited_for() -> None:
    world = World()
    world.connections.hangs = world.queue.away = True

    sending = asyncio.create_task(world.send(RIGHT))
    while world.queue.refused == 0:
        await asyncio.sleep(0.01)
    world.connections.wakes.set()
    await sending

    assert world.bodies == [BODY]


async def test_a_known_connection_refuses_wrong_secrets_also_without_the_database() -> None:
    world = World()
    await world.send(RIGHT)
    world.connections.away = True

    with pytest.raises(Unauthenticated):
        await world.send(WRONG)
    await world.send(RIGHT)

    assert len(world.queue.sealed) == 1


async def test_what_was_known_too_long_ago_or_never_decides_nothing() -> None:
    world = World()
    await world.send(RIGHT)
    world.connections.away = True
    await world.send(WRONG, path=ConnectionId("con_2"))
    world.now += REMEMBERED_FOR + timedelta(seconds=1)
    await world.send(WRONG)

    assert len(world.queue.sealed) == 2


async def test_on_the_bare_address_a_request_without_any_secret_is_not_kept() -> None:
    world = World()
    world.connections.away = True

    with pytest.raises(Unauthenticated):
        await world.send({"accept": "*/*"}, path=None)

    assert world.queue.sealed == []


async def test_a_signature_is_checked_on_the_bytes_as_they_came() -> None:
    world = World()
    sealed = tuple(
        world.keyring.encrypt(key, context=connection_context(CONNECTION)) for key in ("new", "old")
    )
    checks = Checks(secret=False, signature=True)
    world.connections.stored = (replace(STORED, checks=checks, sealed_hmac_secrets=sealed),)

    for key in ("new", "old"):
        await world.send({"x-100ms-signature": signature_of(BODY, secret=key)})
    with pytest.raises(Unauthenticated):
        await world.send({"x-100ms-signature": signature_of(BODY, secret="new")}, body=BODY + b" ")
    with pytest.raises(Unauthenticated):
        await world.send(RIGHT)

    assert len(world.hundredms.received) == 2


async def test_refusals_of_unknown_and_of_wrong_read_the_same_and_only_the_address_differs() -> None:
    world = World()
    world.connections.stored = (replace(STORED, checks=Checks(network=True), networks=("10.9.0.0/16",)),)
    words = set()
    for path, headers in (
        (CONNECTION, WRONG),
        (ConnectionId("con_2"), RIGHT),
        (None, WRONG),
        (CONNECTION, {}),
    ):
        with pytest.raises(Unauthenticated) as refusal:
            await world.send(headers, path=path)
        words.add(str(refusal.value))
    with pytest.raises(Forbidden):
        await world.send(RIGHT)
    await world.send(RIGHT, peer="10.9.1.1")

    assert words == {"Invalid signature"}
    assert len(world.hundredms.received) == 1


async def _kept(world: World, *bodies: bytes, headers: dict[str, str] | None = None) -> None:
    world.connections.away = True
    for body in bodies:
        await world.send(headers or RIGHT, body=body)
    world.connections.away = False


async def test_what_was_kept_is_handled_in_the_order_in_which_it_came() -> None:
    world = World()
    await _kept(world, b"1", b"2", b"3")
    came_in_at, world.now = world.now, world.now + timedelta(hours=30)

    assert await world.backlog.turn() is False

    assert (world.bodies, world.queue.sealed) == ([b"1", b"2", b"3"], [])
    assert {webhook.received_at for _connection, webhook in world.hundredms.received} == {came_in_at}
    assert world.connections.asked_at[-3:] == [came_in_at] * 3


async def test_what_nobody_could_judge_is_judged_when_the_database_is_back() -> None:
    world = World()
    await _kept(world, b"forged", headers=WRONG)
    await _kept(world, b"genuine")

    await world.backlog.turn()

    assert (world.bodies, world.queue.sealed) == ([b"genuine"], [])


async def test_what_cannot_be_read_stops_nothing() -> None:
    world = World()
    await _kept(world, b"1")
    world.queue.sealed.insert(0, "sealed under a key that was lost")
    world.hundredms.failure = Malformed("not JSON")

    await world.backlog.turn()

    assert world.queue.sealed == []


async def test_an_outage_leaves_the_oldest_where_it_is_however_often_it_is_tried() -> None:
    world = World()
    await _kept(world, b"1", b"2")
    world.connections.away = True
    for _ in range(2 * MAX_ATTEMPTS):
        with pytest.raises(RetryableError):
            await world.backlog.turn()
    world.connections.away = False

    await world.backlog.turn()

    assert world.bodies == [b"1", b"2"]


async def test_a_webhook_that_breaks_its_handling_does_not_stop_the_others_for_ever() -> None:
    world = World()
    await _kept(world, b"1", b"2")
    world.hundredms.failure = ZeroDivisionError()
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(ZeroDivisionError):
            await world.backlog.turn()
        assert len(world.queue.sealed) == 2
    with pytest.raises(ZeroDivisionError):
        await world.backlog.turn()
    world.hundredms.failure = None

    await world.backlog.turn()

    assert (world.bodies, world.queue.sealed) == ([b"2"], [])


async def test_another_replicas_turn_is_left_to_it() -> None:
    world = World(ours=False)
    await _kept(world, b"1")

    assert await world.backlog.turn() is False

    assert len(world.queue.sealed) == 1
