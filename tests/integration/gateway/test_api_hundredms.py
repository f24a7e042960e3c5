"""100ms connections and webhooks over HTTP: what is recorded, what it causes, what is answered."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.hundredms import prune_webhooks
from tests.integration.gateway.api_client import Customer, GatewayApp

SAMPLES = Path(__file__).resolve().parents[3] / ".." / "shared" / "samples" / "100ms" / "payloads"
HLS = "https://cdn.100ms.live/beam/room/master.m3u8"


def _payload(kind: str, *, event_id: str = "e-1", beam: str | None = "beam-1", **data: Any) -> dict[str, Any]:
    details: dict[str, Any] = {"room_id": "room-1", "session_id": "session-1"} | data
    if beam is not None:
        details["beam_id"] = beam
    return {"version": "2.0", "id": event_id, "account_id": "acc-1", "type": kind, "data": details}


class Sender:
    """Posts webhooks to one connection."""

    def __init__(self, app: GatewayApp, connection: dict[str, Any]) -> None:
        self._app = app
        self.path = connection["webhook_path"]
        self.headers = {connection["secret_header"]: connection["secret"]}

    async def send(self, payload: Any, *, path: str | None = None) -> Any:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return await self._app.client.post(path or self.path, content=body, headers=self.headers)


async def _sender(app: GatewayApp, customer: Customer, **changes: Any) -> Sender:
    return Sender(app, await app.connect(customer, **changes))


async def test_a_started_webhook_makes_a_stream_with_the_connections_options(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer, options={"sensitivity": "high", "metadata": {"venue": "x"}})

    answer = await sender.send(_payload("hls.started.success", url=HLS))

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    [event] = await gateway_app.emitted("stream.online")
    stream = await gateway_app.client.get(f"/v1/streams/{event['stream_id']}", headers=customer.headers)
    body = stream.json()
    assert (body["platform"], body["source_url"]) == ("100ms", HLS)
    assert body["options"]["sensitivity"] == "high"
    assert body["metadata"] == {"venue": "x", "room_id": "room-1", "session_id": "session-1"}
    assert (event["external_id"], event["lane"]) == ("beam-1", "live")


async def test_what_100ms_told_is_kept_sealed(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)
    payload = _payload("hls.started.success", url=f"{HLS}?signature=hidden")

    await sender.send(payload)

    [row] = await gateway_app.rows("SELECT * FROM hundredms_events", customer)
    assert "hidden" not in str(row)
    opened = gateway_app.keyring.decrypt(row["sealed_payload"], context=f"connection:{row['connection_id']}")
    assert json.loads(opened) == payload


async def test_short_event_names_are_understood(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)

    await sender.send(_payload("hls.started", url=HLS))
    await sender.send(_payload("hls.stopped", event_id="e-2", reason="room ended"))

    [offline] = await gateway_app.emitted("stream.offline")
    assert offline["reason"] == "100ms: room ended"


@pytest.mark.parametrize("prefix", ["", "/v1", "/api/v1"])
async def test_the_bare_address_finds_the_connection_by_its_secret(
    gateway_app: GatewayApp, prefix: str
) -> None:
    first, second = await gateway_app.register("first"), await gateway_app.register("second")
    await _sender(gateway_app, first)
    sender = await _sender(gateway_app, second, secret_header="X-Own", secret="a-secret-of-their-own")

    answer = await sender.send(_payload("hls.started.success", url=HLS), path=f"{prefix}/webhooks/100ms")

    [event] = await gateway_app.emitted("stream.online")
    assert (answer.status_code, event["organization_id"]) == (200, second.organization_id)


async def test_copies_of_a_webhook_change_nothing(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)
    started = _payload("hls.started.success", url=HLS)

    answers = await asyncio.gather(*(sender.send(started) for _ in range(4)))
    replayed = await sender.send(started | {"id": "another-id"})

    assert {answer.status_code for answer in (*answers, replayed)} == {200}
    assert len(await gateway_app.emitted("stream.online")) == 1
    notes = [row["note"] for row in await gateway_app.rows("SELECT note FROM hundredms_events", customer)]
    assert sorted(note.partition(":")[0] for note in notes) == ["ignored", "started"]


async def test_a_stop_before_its_start_leaves_a_tombstone(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)

    await sender.send(_payload("hls.stopped.success", reason="client request"))
    answer = await sender.send(_payload("hls.started.success", event_id="e-2", url=HLS))

    assert answer.status_code == 200
    assert await gateway_app.emitted("stream.online") == []


async def test_start_and_stop_at_once_leave_no_stream_running(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)

    for number in range(5):
        beam = f"beam-{number}"
        await asyncio.gather(
            sender.send(_payload("hls.started.success", event_id=f"a{number}", beam=beam, url=HLS)),
            sender.send(_payload("hls.stopped.success", event_id=f"b{number}", beam=beam)),
        )

    online, offline = await gateway_app.emitted("stream.online"), await gateway_app.emitted("stream.offline")
    assert {event["stream_id"] for event in online} == {event["stream_id"] for event in offline}


async def test_a_failure_ends_the_stream_but_a_failed_upload_does_not(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)
    await sender.send(_payload("hls.started.success", url=HLS))

    await sender.send(_payload("hls.failure", event_id="e-2", error_type="UPLOAD_ERROR"))
    after_upload = await gateway_app.emitted("stream.offline")
    await sender.send(
        _payload("hls.failure", event_id="e-3", error_type="INTERNAL_ERROR", error_message="it broke")
    )

    assert after_upload == []
    [event] = await gateway_app.emitted("stream.offline")
    assert event["reason"] == "100ms: INTERNAL_ERROR: it broke"


async def test_without_a_beam_room_session_and_start_stand_for_the_stream(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)
    start = {"started_at": "2022-01-05T10:00:00Z"}

    await sender.send(_payload("hls.started.success", beam=None, url=HLS, **start))
    await sender.send(_payload("hls.stopped.success", event_id="e-2", beam=None, **start))

    assert len(await gateway_app.emitted("stream.offline")) == 1


async def test_a_start_with_a_private_address_is_recorded_and_starts_nothing(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)

    answer = await sender.send(_payload("hls.started.success", url="http://10.0.0.1/master.m3u8"))

    [row] = await gateway_app.rows("SELECT note FROM hundredms_events", customer)
    assert answer.status_code == 200
    assert row["note"].startswith("refused: ")
    assert await gateway_app.emitted("stream.online") == []


async def test_wrong_secrets_are_refused_on_both_addresses(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    connection = await gateway_app.connect(customer)
    wrong = {"X-TLDR-Secret": "wrong-but-long-enough"}
    elsewhere = {"X-Other": connection["secret"]}

    for path in (connection["webhook_path"], "/webhooks/100ms", "/webhooks/100ms/con_000000000000"):
        for headers in (wrong, elsewhere, {}):
            answer = await gateway_app.client.post(path, content=b"{}", headers=headers)
            assert (answer.status_code, answer.json()["detail"]) == (401, "Invalid signature")


BODIES = (
    (b"{", 400),
    (b"", 400),
    (b"\xff\xfe", 400),
    (b"[" * 5000, 400),
    (b"[]", 200),
    (b"{}", 200),
    (b"null", 200),
    (b'"text"', 200),
    (b"1" * 5000, 200),
    (b'{"type": {}, "data": "not JSON"}', 200),
    (b'{"event": "HLS.STARTED", "data": "{\\"room_id\\": 1}"}', 200),
    (b'{"type": "never.heard.of"}', 200),
    (b'{"type": "peer.join.success", "id": "\\u0000x", "data": {"user_name": "\\u0000\\ud800"}}', 200),
    (b'{"type": "hls.started.success", "data": null}', 200),
    (b'{"type": "hls.stopped.success", "data": {"room_id": 7}}', 200),
    (b'{"type": "x", "data": 1e999}', 200),
    (b'{"type": "x", "filler": "' + b"y" * (1 << 20) + b'"}', 413),
)


async def test_any_body_gets_a_clear_answer(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)

    for body, status in BODIES:
        answer = await sender.send(body)
        assert answer.status_code == status, (body[:80], answer.text)


async def test_every_documented_payload_is_accepted_and_recorded(gateway_app: GatewayApp) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the 100ms samples (../shared/samples/100ms) are not on this machine")
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)
    first = SAMPLES / "hls.started.success.json"
    files = [first, *sorted(SAMPLES.rglob("*.json"))]

    answers = {path.name: (await sender.send(path.read_bytes())).status_code for path in files}

    assert len(files) > 150
    assert {name: status for name, status in answers.items() if status != 200} == {}
    started = await gateway_app.emitted("stream.online")
    stopped = await gateway_app.emitted("stream.offline")
    assert {event["stream_id"] for event in stopped} <= {event["stream_id"] for event in started}
    assert len(started) >= 1


async def test_what_100ms_told_long_ago_is_forgotten(gateway_app: GatewayApp) -> None:
    customers = [await gateway_app.register("one"), await gateway_app.register("two")]
    for customer in customers:
        sender = await _sender(gateway_app, customer)
        for beam in ("old", "new"):
            await sender.send(_payload("hls.stopped.success", event_id=beam, beam=beam))
        for table, name, at in (
            ("hundredms_events", "event_id", "received_at"),
            ("hundredms_stops", "beam_id", "stopped_at"),
        ):
            aged = f"UPDATE {table} SET {at} = now() - make_interval(days => 31) WHERE {name} = 'old' RETURNING 1"
            assert len(await gateway_app.rows(aged, customer)) == 1

    assert not await prune_webhooks(gateway_app.database)

    for customer in customers:
        events = await gateway_app.rows("SELECT event_id FROM hundredms_events", customer)
        stops = await gateway_app.rows("SELECT beam_id FROM hundredms_stops", customer)
        assert (events, stops) == ([{"event_id": "new"}], [{"beam_id": "new"}])


async def test_what_is_forgotten_goes_in_small_steps(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)
    for number in range(3):
        await sender.send(_payload("session.open.success", event_id=f"e-{number}"))
    await gateway_app.rows(
        "UPDATE hundredms_events SET received_at = now() - make_interval(days => 31) RETURNING 1", customer
    )

    more = [await prune_webhooks(gateway_app.database, at_once=2) for _ in range(2)]

    assert more == [True, False]
    assert await gateway_app.rows("SELECT 1 FROM hundredms_events", customer) == []


def _variants(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Shapes that 100ms once sent or may send: a missing key each, other types of values, other envelopes."""
    data = payload["data"]
    for name in data:
        yield {**payload, "data": {key: value for key, value in data.items() if key != name}}
    for name in payload:
        yield {key: value for key, value in payload.items() if key != name}
    yield {**payload, "data": {key: str(value) for key, value in data.items()}}
    yield {**payload, "data": dict.fromkeys(data)}
    yield {**payload, "data": json.dumps(data)}
    yield {**payload, "version": 1, "timestamp": 1638277126, "type": payload["type"].removesuffix(".success")}
    yield {**payload, "timestamp": "Tue, 30 Nov 2021 12:58:46 GMT", "type": payload["type"].upper()}


async def test_no_variant_of_a_documented_stream_event_is_refused(gateway_app: GatewayApp) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the 100ms samples (../shared/samples/100ms) are not on this machine")
    customer = await gateway_app.register()
    sender = await _sender(gateway_app, customer)
    samples = [json.loads(path.read_bytes()) for path in sorted(SAMPLES.rglob("hls.*.json"))]
    fullest = {each["type"]: each for each in sorted(samples, key=lambda each: len(each["data"]))}
    variants = [
        {**made, "id": f"v-{n}"} for sample in fullest.values() for n, made in enumerate(_variants(sample))
    ]

    answers = [(await sender.send(variant)).status_code for variant in variants]

    assert len(fullest) > 3 and len(variants) > 80
    assert set(answers) == {200}


async def test_secrets_of_streams_do_not_go_into_a_connection(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    for options in ({"custom_headers": {"A": "b"}}, {"webhook_url": "https://example.com/"}):
        answer = await gateway_app.client.post(
            "/v1/connections/100ms", json={"name": "x", "options": options}, headers=customer.headers
        )
        assert answer.status_code == 422


async def test_a_secret_in_a_header_that_http_itself_uses_is_refused(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    answer = await gateway_app.client.post(
        "/v1/connections/100ms",
        json={"name": "rooms", "secret_header": "Transfer-Encoding"},
        headers=customer.headers,
    )

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "secret_header")
