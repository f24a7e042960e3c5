"""The webhook receiver over HTTP: what it verifies, keeps and answers."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web

from sandbox.receiver import Delayed, Received, WebhookReceiver
from sandbox.signatures import standard_signature, tldr_signature

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BODY = b'{"type": "highlight.ready", "n": 1}'


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def headers(message_id: str = "msg_1", *, body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    timestamp_s = int(NOW.timestamp())
    return {
        "X-TLDR-Signature": tldr_signature(secret, body=body),
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": standard_signature(
            secret, message_id=message_id, timestamp_s=timestamp_s, body=body
        ),
    }


async def post(
    http: aiohttp.ClientSession,
    receiver: WebhookReceiver,
    sent: dict[str, str] | None = None,
    *,
    body: bytes = BODY,
) -> int:
    async with http.post(receiver.url, data=body, headers=sent or headers(body=body)) as response:
        return response.status


async def test_a_signed_webhook_is_taken_and_kept(http: aiohttp.ClientSession) -> None:
    async with WebhookReceiver(secrets=[SECRET], clock=lambda: NOW) as receiver:
        status = await post(http, receiver)

    received = receiver.received[0]
    assert status == 200
    assert (received.id, received.type, received.body) == ("msg_1", "highlight.ready", BODY)
    assert (received.received_at, received.verified, received.fault) == (NOW, True, "")
    assert received.payload["n"] == 1


async def test_a_forged_webhook_is_refused_and_the_reason_kept(http: aiohttp.ClientSession) -> None:
    forged = headers() | {"X-TLDR-Signature": "sha256=00"}

    async with WebhookReceiver(secrets=[SECRET], clock=lambda: NOW) as receiver:
        status = await post(http, receiver, forged)

    received = receiver.received[0]
    assert status == 401
    assert (received.signature_ok, received.standard_ok) == (False, True)
    assert received.fault == "X-TLDR-Signature matches no known secret"


async def test_secrets_may_be_told_after_the_start(http: aiohttp.ClientSession) -> None:
    async with WebhookReceiver(clock=lambda: NOW) as receiver:
        before = await post(http, receiver)
        receiver.secrets.append(SECRET)
        after = await post(http, receiver)

    assert (before, after) == (200, 200)
    assert [received.verified for received in receiver.received] == [False, True]


async def test_scripted_answers_come_first_and_once_each(http: aiohttp.ClientSession) -> None:
    def teapot(received: Received) -> web.Response:
        return web.Response(status=418, text=received.id)

    async with WebhookReceiver(secrets=[SECRET], clock=lambda: NOW) as receiver:
        receiver.answers.extend([500, Delayed(delay_s=0.01, status=503), teapot])
        statuses = [await post(http, receiver) for _ in range(4)]

    assert statuses == [500, 503, 418, 200]


async def test_repeated_deliveries_count_once_when_asked_for_distinct_ones(
    http: aiohttp.ClientSession,
) -> None:
    async with WebhookReceiver(secrets=[SECRET], clock=lambda: NOW) as receiver:
        for message_id in ("msg_1", "msg_2", "msg_1"):
            await post(http, receiver, headers(message_id))

    assert [received.id for received in receiver.received] == ["msg_1", "msg_2", "msg_1"]
    assert [received.id for received in receiver.distinct()] == ["msg_1", "msg_2"]


async def test_waiting_ends_with_the_webhook_that_was_waited_for(http: aiohttp.ClientSession) -> None:
    async with WebhookReceiver(secrets=[SECRET], clock=lambda: NOW) as receiver:
        waiting = asyncio.create_task(receiver.wait_for(lambda r: r.id == "msg_2", timeout_s=5))
        both = asyncio.create_task(receiver.wait_until(lambda all_: len(all_) == 2, timeout_s=5))
        await post(http, receiver, headers("msg_1"))
        await post(http, receiver, headers("msg_2"))

        found, all_ = await waiting, await both

    assert found.id == "msg_2"
    assert [received.id for received in all_] == ["msg_1", "msg_2"]


async def test_waiting_in_vain_tells_what_arrived_instead(http: aiohttp.ClientSession) -> None:
    async with WebhookReceiver(clock=lambda: NOW) as receiver:
        await post(http, receiver)

        with pytest.raises(TimeoutError, match=r"not within 0\.01 s; arrived: highlight\.ready"):
            await receiver.wait_for(lambda r: r.type == "stream.completed", timeout_s=0.01)


async def test_deliveries_are_followed_as_they_come(http: aiohttp.ClientSession) -> None:
    async with WebhookReceiver(clock=lambda: NOW) as receiver:
        deliveries = receiver.deliveries()
        await post(http, receiver, headers("msg_1"))
        first = await anext(deliveries)
        waiting = asyncio.ensure_future(anext(deliveries))
        await post(http, receiver, headers("msg_2"))
        second = await waiting

    assert (first.id, second.id) == ("msg_1", "msg_2")


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff\xfe"])
async def test_a_body_that_is_no_event_is_kept_without_a_type(
    http: aiohttp.ClientSession, body: bytes
) -> None:
    async with WebhookReceiver(secrets=[SECRET], clock=lambda: NOW) as receiver:
        await post(http, receiver, body=body)

    assert (receiver.received[0].type, receiver.received[0].verified) == ("", True)


async def test_only_post_is_taken(http: aiohttp.ClientSession) -> None:
    async with WebhookReceiver() as receiver, http.get(receiver.url) as response:
        assert response.status == 405
