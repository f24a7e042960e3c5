"""100ms webhooks while PostgreSQL refuses or hangs, on a real queue, and what becomes of them afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from gateway.adapters.hundredms import backlog_turns
from gateway.adapters.hundredms_queue import WebhookQueue
from gateway.app import hundredms_backlog
from shared import topology
from shared.broker import BrokerUnavailable, Publisher
from shared.database import Database
from shared.keyring import generate_key
from tests.integration.gateway.api_client import Customer, GatewayApp, running_api

HLS = "https://cdn.100ms.live/beam/room/master.m3u8?signature=hidden"
NOWHERE = "postgresql://nobody:nothing@127.0.0.1:1/none"
KEYRING = generate_key()
SMALL = "test.webhooks.small"


def payload(kind: str, *, event_id: str, beam: str = "beam-1", **data: Any) -> bytes:
    details = {"room_id": "room-1", "session_id": "session-1", "beam_id": beam, "url": HLS, **data}
    return json.dumps({"id": event_id, "account_id": "a", "type": kind, "data": details}).encode()


STARTED, STOPPED = (
    payload("hls.started.success", event_id="e-1"),
    payload("hls.stopped.success", event_id="e-2"),
)


@pytest.fixture
async def empty_queue(queues: str) -> str:
    async with await aio_pika.connect(queues) as connection:
        channel = await connection.channel()
        await (await channel.get_queue(topology.KEPT_WEBHOOKS, ensure=False)).purge()
    return queues


@asynccontextmanager
async def gateway(database_url: str, folder: Path, rabbitmq_url: str) -> AsyncIterator[GatewayApp]:
    """A gateway with a broker, and with a database that may be none."""
    async with running_api(database_url, folder, rabbitmq_url=rabbitmq_url, secrets_keyring=KEYRING) as app:
        await app.base.publishing.start()
        yield app
        await app.base.publishing.stop()


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """The address of a server that takes connections and never says a word, like a database that hangs."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        yield f"postgresql://nobody:nothing@127.0.0.1:{server.sockets[0].getsockname()[1]}/none"
    finally:
        for writer in writers:
            writer.close()
        server.close()


async def connected(app: GatewayApp) -> tuple[Customer, dict[str, Any]]:
    customer = await app.register()
    made = await app.connect(customer)
    return customer, {"path": made["webhook_path"], "headers": {made["secret_header"]: made["secret"]}}


async def post(app: GatewayApp, door: dict[str, Any], body: bytes, **changes: Any) -> Any:
    """The answer; as 100ms does, three more attempts follow where it is 503 (a broker on a busy machine)."""
    values = door | changes
    for _ in range(4):
        answer = await app.client.post(values["path"], content=body, headers=values["headers"])
        if answer.status_code != 503:
            break
    return answer


async def lose_database(app: GatewayApp) -> None:
    await app.database.close()
    app.database.engine = Database(NOWHERE, schema="gateway").engine
    app.database._sessions.configure(bind=app.database.engine)


async def drain(app: GatewayApp) -> None:
    queue = WebhookQueue(
        url=app.settings.rabbitmq_url.get_secret_value(), publisher=Publisher(app.base.publishing)
    )
    async with aclosing(queue) as kept:
        backlog = hundredms_backlog(app.base, app.settings, kept)
        while await backlog.turn():
            pass
        assert await kept.oldest() is None


async def test_what_came_while_the_database_refused_is_done_once_and_in_order_when_it_is_back(
    gateway_database: Database, empty_queue: str, tmp_path: Path
) -> None:
    async with gateway(gateway_database.url, tmp_path, empty_queue) as healthy:
        customer, door = await connected(healthy)
        async with gateway(NOWHERE, tmp_path, empty_queue) as cut_off:
            bodies = (STARTED, STARTED, STOPPED, STARTED)
            answers = [await post(cut_off, door, body) for body in bodies]
            forged = await post(cut_off, door, STARTED, headers={"X-TLDR-Secret": "forged-" * 4})

        await drain(healthy)

        assert [(each.status_code, each.json()) for each in (*answers, forged)] == [
            (200, {"status": "ok"})
        ] * 5
        rows = await healthy.rows("SELECT type, note FROM hundredms_events ORDER BY handled_at", customer)
        assert [(row["type"], row["note"].partition(":")[0]) for row in rows] == [
            ("hls.started.success", "started"),
            ("hls.stopped.success", "stopped"),
        ]
        assert (
            len(await healthy.emitted("stream.online")) == len(await healthy.emitted("stream.offline")) == 1
        )


async def test_a_database_that_hangs_is_not_waited_for(
    gateway_database: Database, empty_queue: str, tmp_path: Path
) -> None:
    async with gateway(gateway_database.url, tmp_path, empty_queue) as healthy, silent_server() as silent:
        _customer, door = await connected(healthy)
        async with gateway(silent, tmp_path, empty_queue) as hanging:
            answers = await asyncio.gather(*(post(hanging, door, STARTED) for _ in range(30)))

        await drain(healthy)

        assert {each.status_code for each in answers} == {200}
        assert len(await healthy.emitted("stream.online")) == 1


async def test_what_lies_in_the_broker_is_durable_and_tells_nothing(
    gateway_database: Database, empty_queue: str, tmp_path: Path
) -> None:
    async with gateway(gateway_database.url, tmp_path, empty_queue) as healthy:
        _customer, door = await connected(healthy)
    async with gateway(NOWHERE, tmp_path, empty_queue) as cut_off:
        await post(cut_off, door, STARTED)

    async with await aio_pika.connect(empty_queue) as connection:
        queue = await (await connection.channel()).get_queue(topology.KEPT_WEBHOOKS, ensure=False)
        message = await queue.get()
        await message.ack()
    assert message.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
    text = message.body.decode() + str(message.headers)
    for secret in (*door["headers"].values(), "cdn.100ms.live", "hidden", door["path"].rpartition("/")[2]):
        assert secret not in text


async def test_without_the_broker_the_database_alone_is_enough(
    gateway_database: Database, tmp_path: Path
) -> None:
    async with running_api(gateway_database.url, tmp_path, rabbitmq_url="amqp://127.0.0.1:1/") as app:
        _customer, door = await connected(app)

        answers = [await post(app, door, body) for body in (STARTED, STOPPED)]

        assert [each.status_code for each in answers] == [200, 200]
        assert len(await app.emitted("stream.online")) == len(await app.emitted("stream.offline")) == 1


async def test_without_both_100ms_is_told_to_come_again(tmp_path: Path) -> None:
    async with running_api(NOWHERE, tmp_path, rabbitmq_url="amqp://127.0.0.1:1/") as app:
        answer = await app.client.post(
            "/webhooks/100ms/con_000000000000", content=STARTED, headers={"X-TLDR-Secret": "s" * 20}
        )

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


async def test_a_known_connection_tells_forged_webhooks_also_while_the_database_is_away(
    gateway_database: Database, empty_queue: str, tmp_path: Path
) -> None:
    async with gateway(gateway_database.url, tmp_path, empty_queue) as app:
        _customer, door = await connected(app)
        assert (await post(app, door, STARTED)).status_code == 200
        await lose_database(app)

        statuses = [
            (await post(app, door, STOPPED, headers=headers)).status_code
            for headers in ({"X-TLDR-Secret": "forged-" * 4}, {}, door["headers"])
        ]

    assert statuses == [401, 401, 200]


async def test_a_secret_that_was_rotated_just_before_the_outage_is_not_taken_for_forged(
    gateway_database: Database, empty_queue: str, tmp_path: Path
) -> None:
    async with gateway(gateway_database.url, tmp_path, empty_queue) as app:
        customer, door = await connected(app)
        assert (await post(app, door, STARTED)).status_code == 200
        path = door["path"].replace("/webhooks/100ms", "/v1/connections/100ms") + "/secret"
        rotated = (await app.client.post(path, json={}, headers=customer.headers)).json()
        await lose_database(app)

        answer = await post(app, door, STOPPED, headers={rotated["secret_header"]: rotated["secret"]})

    assert answer.status_code == 200


async def test_a_full_queue_refuses_so_that_the_sender_comes_again(empty_queue: str, tmp_path: Path) -> None:
    arguments = {**topology.kept_webhooks_arguments(), "x-max-length": 1}
    async with (
        gateway(NOWHERE, tmp_path, empty_queue) as app,
        await aio_pika.connect(empty_queue) as connection,
    ):
        channel = await connection.channel()
        await channel.declare_queue(SMALL, durable=True, arguments=arguments)
        queue = WebhookQueue(url=empty_queue, publisher=Publisher(app.base.publishing), name=SMALL)
        try:
            with pytest.raises(BrokerUnavailable):
                for _ in range(50):
                    await queue.keep("sealed")
        finally:
            await channel.queue_delete(SMALL)


async def test_what_a_replica_held_when_it_died_is_given_to_the_next(
    empty_queue: str, tmp_path: Path
) -> None:
    async with gateway(NOWHERE, tmp_path, empty_queue) as app:
        publisher = Publisher(app.base.publishing)
        first, second = (WebhookQueue(url=empty_queue, publisher=publisher) for _ in range(2))
        async with aclosing(second):
            for sealed in ("1", "2"):
                await first.keep(sealed)
            held = [await first.oldest(), await first.oldest()]
            await first.aclose()
            given = []
            for _ in range(2):
                given.append(await second.oldest())
                await second.done()
            last = await second.oldest()

    assert (held, given, last) == (["1", "1"], ["1", "2"], None)


async def test_the_backlog_is_one_replicas_at_a_time(gateway_database: Database) -> None:
    turns = backlog_turns(gateway_database)

    async with turns() as first, turns() as second:
        assert (first, second) == (True, False)
    async with turns() as again:
        assert again
