"""Consumers outside the product: the examples against a real broker, with no more rights than the guide gives."""

import asyncio
import re
import secrets
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused
from jsonschema import Draft7Validator

from localcluster.asyncapi import CONTENT_TYPE, PROPERTIES, asyncapi, public_events
from localcluster.binaries import locate
from shared import topology
from shared.broker import Publisher, publish_broker
from shared.contract import INTERNAL_EXCHANGE, PUBLIC_EXCHANGE, queue_name
from shared.events import ClipReady, Event, HighlightConfirmed, Lane
from shared.ids import OrganizationId, StreamId
from shared.ids import event_id as id_of
from shared.outbox import Outgoing
from tests.builders import ORGANIZATION, STREAM, highlight_confirmed
from tests.conftest import REPOSITORY, Servers
from tests.integration.examples.children import Example, node_command, python_command, started

GUIDE = REPOSITORY / "docs" / "consumers.md"
DOCUMENTED_USER = "acme"
USER = f"acme{secrets.token_hex(3)}"  # users belong to the whole node, which several workers may share
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DOCUMENT = asyncapi(public_events())
BASIC_PROPERTIES = {
    "content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to",
    "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id",
}  # fmt: skip
COMMANDS = {"python": python_command, "node": node_command}


# -- the user that the guide describes ---------------------------------------------------------------


def documented_commands() -> list[list[str]]:
    """What follows `rabbitmqctl` in the guide, without the policy."""
    lines = re.findall(r"^rabbitmqctl (.*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line) for line in lines if "policy" not in line]


def adapted(command: list[str], vhost: str) -> list[str]:
    """The command for our own virtual host, and with our user's name for the documented one."""
    words = [
        vhost if before == "--vhost" else word for before, word in zip(["", *command], command, strict=False)
    ]
    return [word.replace(DOCUMENTED_USER, USER) for word in words]


async def rabbitmqctl(servers: Servers, *arguments: str, typed: str = "") -> None:
    assert servers.rabbitmq_environment is not None
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(locate("rabbitmqctl")),
        "--quiet",
        *arguments,
        env=servers.rabbitmq_environment,
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.STDOUT,
    )
    answer, _ = await process.communicate(typed.encode())
    assert 0 == process.returncode, answer.decode(errors="replace")


def as_user(url: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{USER}:{password}@{parts.hostname}:{parts.port}"))


@pytest.fixture(scope="module")
async def user_url(servers: Servers, queues: str) -> AsyncIterator[str]:
    """The broker's address for a user with the rights that the guide gives."""
    if servers.rabbitmq_environment is None:
        pytest.skip("the broker is a given one, in which no user is made")
    password = secrets.token_urlsafe(12)
    vhost = urlsplit(queues).path.removeprefix("/").replace("%2F", "/")
    add, *rights = (adapted(command, vhost) for command in documented_commands())
    await rabbitmqctl(servers, *add, typed=f"{password}\n")
    await asyncio.gather(*(rabbitmqctl(servers, *command) for command in rights))
    yield as_user(queues, password)
    await rabbitmqctl(servers, "delete_user", USER)


# -- events, published as our services do ------------------------------------------------------------


def clip_ready(**changes: object) -> ClipReady:
    fields: dict[str, object] = {
        "event_id": id_of(STREAM, ClipReady.name, secrets.token_hex(4)),
        "organization_id": OrganizationId(ORGANIZATION),
        "stream_id": StreamId(STREAM),
        "occurred_at": datetime.now(UTC),
        "lane": Lane.VOD,
        "highlight_id": "hl_0123456789abcdef01234567",
        "revision": 0,
        "video_key": "clips/a.mp4",
        "thumbnail_key": "clips/a.jpg",
        "start_us": 0,
        "duration_us": 2_000_000,
        "size_bytes": 1,
        "sha256": "0" * 64,
        "width": 1280,
        "height": 720,
    }
    return ClipReady.model_validate(fields | changes)


def outgoing(event: Event) -> Outgoing:
    return Outgoing(
        seq=1,
        day=event.occurred_at.date(),
        event_id=str(event.event_id),
        event_name=event.name,
        lane=event.lane,
        body=event.model_dump_json(),
        traceparent=TRACEPARENT,
    )


Publish = Callable[[Event], Awaitable[None]]


@pytest.fixture
async def publish(queues: str) -> AsyncIterator[Publish]:
    async with publish_broker(queues) as broker:
        publisher = Publisher(broker)

        async def send(event: Event) -> None:
            await publisher.publish(outgoing(event))

        yield send


@dataclass(frozen=True)
class Program:
    """One of the examples, and the name under which it consumes."""

    command: list[str]
    consumer: str


@pytest.fixture(scope="module", params=COMMANDS)
async def program(request: pytest.FixtureRequest) -> Program:
    return Program(await COMMANDS[request.param](), f"{USER}.{request.param}")


@asynccontextmanager
async def consuming(program: Program, *, url: str, admin_url: str) -> AsyncIterator[Example]:
    """The example with a queue of its own, of which nothing is left afterwards."""
    example = await started(program.command, url=url, consumer=program.consumer)
    try:
        await example.consumes()
        yield example
    finally:
        if example.process.returncode is None:
            example.process.kill()
            await example.process.communicate()
        await forget(admin_url, program.consumer)


async def forget(url: str, consumer: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for name in (f"{consumer}.highlights.v1", f"{consumer}.dead.v1"):
            await channel.queue_delete(name)
        await channel.exchange_delete(f"{consumer}.dead")


async def waiting_in(url: str, name: str) -> int | None:
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).declare_queue(name, passive=True)
        return queue.declaration_result.message_count


# -- the examples ------------------------------------------------------------------------------------


async def test_an_example_prints_each_event_once_and_survives_its_connection(
    program: Program, servers: Servers, queues: str, user_url: str, publish: Publish
) -> None:
    confirmed, vod, last = highlight_confirmed(), clip_ready(), clip_ready()
    async with consuming(program, url=user_url, admin_url=queues) as example:
        for event in (confirmed, confirmed, vod):
            await publish(event)
        printed = [await example.line(), await example.line()]
        await rabbitmqctl(servers, "close_all_user_connections", USER, "test")
        for event in (confirmed, last):
            await publish(event)
        printed.append(await example.line())
        status, rest = await example.end()
        left = await waiting_in(queues, f"{program.consumer}.highlights.v1")

    sent = [(event.name, event.model_dump(mode="json")) for event in (confirmed, vod, last)]
    assert sent == [(line["type"], line["event"]) for line in printed]
    assert {TRACEPARENT} == {line["traceparent"] for line in printed}
    assert (0, b"", 0) == (status, rest, left)


async def test_an_example_puts_what_it_cannot_read_into_its_own_dead_letter(
    program: Program, queues: str, user_url: str, publish: Publish
) -> None:
    after = clip_ready()
    async with consuming(program, url=user_url, admin_url=queues) as example:
        async with await aio_pika.connect(queues) as connection:
            exchange = await (await connection.channel()).get_exchange(PUBLIC_EXCHANGE, ensure=False)
            for body in (b"no JSON", b"[]", b"{}", b"null"):
                await exchange.publish(aio_pika.Message(body), "clip.ready.live", mandatory=True)
        await publish(after)
        printed = await example.line()
        status, _ = await example.end()
        dead = await waiting_in(queues, f"{program.consumer}.dead.v1")

    assert (str(after.event_id), 0, 4) == (printed["event"]["event_id"], status, dead)


# -- what the user may not ---------------------------------------------------------------------------


async def bind(channel: aio_pika.abc.AbstractChannel, exchange: str, key: str) -> None:
    queue = await channel.declare_queue(f"{USER}.attempt", auto_delete=True)
    await queue.bind(exchange, key)


async def send(channel: aio_pika.abc.AbstractChannel, exchange: str, key: str) -> None:
    place = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
    await place.publish(aio_pika.Message(b"{}"), key)


async def take(channel: aio_pika.abc.AbstractChannel, name: str, _key: str) -> None:
    await (await channel.get_queue(name, ensure=False)).get(fail=False)


async def declare(channel: aio_pika.abc.AbstractChannel, name: str, _key: str) -> None:
    await channel.declare_queue(name, durable=True)


OURS = queue_name("clipper", "highlight.confirmed", Lane.LIVE)


@pytest.mark.parametrize(
    ("attempt", "place", "key"),
    [
        pytest.param(bind, INTERNAL_EXCHANGE, "highlight.#", id="bind to the internal exchange"),
        pytest.param(bind, PUBLIC_EXCHANGE, "#", id="bind to all public events"),
        pytest.param(bind, PUBLIC_EXCHANGE, "stream.online.live", id="bind to an event beyond its pattern"),
        pytest.param(bind, topology.DEAD_EXCHANGE, "clipper", id="bind to our dead letters"),
        pytest.param(send, PUBLIC_EXCHANGE, "highlight.confirmed.live", id="publish publicly"),
        pytest.param(send, INTERNAL_EXCHANGE, "endpoint.changed.live", id="publish internally"),
        pytest.param(send, "", OURS, id="publish into our queue"),
        pytest.param(take, OURS, "", id="take from our queue"),
        pytest.param(declare, "clipper.mine", "", id="declare under another name"),
    ],
)
async def test_the_documented_user_is_refused_to(
    attempt: Callable[[aio_pika.abc.AbstractChannel, str, str], Awaitable[None]],
    place: str,
    key: str,
    user_url: str,
) -> None:
    async with await aio_pika.connect(user_url) as connection:
        channel = await connection.channel()
        with pytest.raises(ChannelAccessRefused):
            await attempt(channel, place, key)


async def test_the_documented_user_may_bind_what_the_pattern_allows(user_url: str) -> None:
    async with await aio_pika.connect(user_url) as connection:
        await bind(await connection.channel(), PUBLIC_EXCHANGE, "highlight.confirmed.#")


# -- what the document says of a message -------------------------------------------------------------


async def test_a_message_has_exactly_the_properties_that_the_document_names(
    queues: str, publish: Publish
) -> None:
    event = highlight_confirmed()
    async with await aio_pika.connect(queues) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(PUBLIC_EXCHANGE, "highlight.confirmed.#")
        await publish(event)
        message = await queue.get(timeout=5)

    properties = {name: value for name, value in message.info().items() if name in BASIC_PROPERTIES}
    assert set(PROPERTIES) == {name for name, value in properties.items() if value}
    assert (str(event.event_id), event.name) == (message.message_id, message.type)
    assert (CONTENT_TYPE, 2) == (message.content_type, message.delivery_mode)
    assert {"traceparent": TRACEPARENT} == message.headers
    assert Draft7Validator(DOCUMENT["components"]["schemas"]["Headers"]).is_valid(message.headers)
    assert event == HighlightConfirmed.model_validate_json(message.body)
