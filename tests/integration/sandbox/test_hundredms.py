"""The 100ms sender over HTTP: its header and its retries, with a sleep that only notes the time."""

import hmac
import json
from datetime import UTC, datetime

import pytest

from sandbox.hundredms import Beam, HundredMs, Shape
from sandbox.receiver import WebhookReceiver

BEAM = Beam(stream_url="https://cdn.example/master.m3u8", started_at=datetime(2026, 1, 2, tzinfo=UTC))


async def no_sleep(_: float) -> None:
    return None


async def test_the_secret_travels_in_the_header_and_the_beam_in_the_body() -> None:
    async with WebhookReceiver() as receiver, HundredMs(receiver.url, secret="s3cret") as sender:
        delivery = await sender.send("hls.started.success", beam=BEAM)

    received = receiver.received[0]
    assert delivery.delivered
    assert dict(received.headers)["X-100ms-Secret"] == "s3cret"
    assert (received.type, received.payload["id"]) == ("hls.started.success", delivery.event_id)
    assert received.payload["data"]["url"] == BEAM.stream_url


@pytest.mark.parametrize(
    ("answers", "statuses", "waits_s", "delivered"),
    [
        ([200], [200], [0, 1, 3, 10], True),
        ([500, 204, 200], [500, 204, 200], [0, 1, 3], True),
        ([202, 302, 400, 500], [202, 302, 400, 500], [0, 1, 3, 10], False),
    ],
)
async def test_only_200_counts_and_three_retries_follow(
    answers: list[int], statuses: list[int], waits_s: list[float], delivered: bool
) -> None:
    async with (
        WebhookReceiver() as receiver,
        HundredMs(receiver.url, secret="s", sleep=no_sleep) as sender,
    ):
        receiver.answers.extend(answers)
        delivery = await sender.send("hls.stopped.success", beam=BEAM)

    assert [attempt.status for attempt in delivery.attempts] == statuses
    assert [attempt.waited_s for attempt in delivery.attempts] == waits_s[: len(statuses)]
    assert delivery.delivered is delivered
    assert len({received.body for received in receiver.received}) == 1


async def test_nobody_listening_is_an_attempt_without_status() -> None:
    async with WebhookReceiver() as receiver:
        url = receiver.url

    async with HundredMs(url, secret="s", sleep=no_sleep) as sender:
        delivery = await sender.send("hls.failure", beam=BEAM)

    assert [attempt.status for attempt in delivery.attempts] == [0, 0, 0, 0]
    assert delivery.attempts[0].error.startswith("ClientConnectorError")


async def test_a_payload_is_delivered_as_it_is() -> None:
    payload = {"id": "e-1", "type": "something.new", "data": {"room_id": "r"}}

    async with WebhookReceiver() as receiver, HundredMs(receiver.url, secret="s") as sender:
        await sender.deliver(payload)

    assert json.loads(receiver.received[0].body) == payload


async def test_with_a_key_the_exact_bytes_are_signed_and_no_secret_need_travel() -> None:
    async with (
        WebhookReceiver() as receiver,
        HundredMs(receiver.url, secret=None, hmac_secret="k3y", shape=Shape.SHORT) as sender,
    ):
        await sender.send("hls.started.success", beam=BEAM)

    received = receiver.received[0]
    headers = {name.lower(): value for name, value in dict(received.headers).items()}
    assert headers["x-100ms-signature"] == hmac.new(b"k3y", received.body, "sha256").hexdigest()
    assert "x-100ms-secret" not in headers
    assert received.type == "hls.started"
