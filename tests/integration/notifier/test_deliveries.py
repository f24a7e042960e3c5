"""From the gateway's event to the customer's receiver and back, over real PostgreSQL and real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import text
from standardwebhooks import Webhook

from sandbox.receiver import Received, WebhookReceiver
from shared import trace
from shared.events import DeliveryFinished
from shared.ids import EndpointId, OrganizationId, StreamId
from tests.integration.notifier.conftest import ENDPOINT, ORGANIZATION, SECRET, Customers, Notifier

OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver(secrets=[SECRET]) as started:
        yield started


def answer_when(gate: asyncio.Event) -> Callable[[Received], Awaitable[web.StreamResponse]]:
    async def answer(_received: Received) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    return answer


async def reports(notifier: Notifier) -> list[DeliveryFinished]:
    rows = await notifier.sql("SELECT body FROM outbox ORDER BY seq")
    return [DeliveryFinished.model_validate_json(row["body"]) for row in rows]


async def test_a_notification_arrives_with_both_signatures_valid(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    notification = customers.notification()
    await notifier.take(customers.endpoint(receiver.url), notification)
    await notifier.settle()
    (received,) = receiver.received
    assert received.verified, received.fault
    assert received.body == notification.body.encode()
    assert received.id == notification.public_event_id
    assert Webhook(SECRET).verify(received.body, dict(received.headers)) == json.loads(notification.body)


async def test_a_delivery_leaves_state_log_and_report(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    await notifier.take(customers.endpoint(receiver.url), customers.notification())
    await notifier.settle()
    (report,) = await reports(notifier)
    (logged,) = await notifier.sql("SELECT * FROM attempts")
    assert await notifier.states() == [("delivered", 1)]
    assert [(line.outcome, line.attempts, line.status) for line in report.results] == [("delivered", 1, 200)]
    assert (logged["attempt"], logged["status"], logged["code"]) == (1, 200, None)
    assert logged["duration_ms"] >= 0


async def test_after_a_500_the_same_bytes_come_again_under_the_same_webhook_id(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    receiver.answers.append(500)
    await notifier.take(customers.endpoint(receiver.url), customers.notification())
    await notifier.settle()
    assert await notifier.states() == [("pending", 1)]
    (row,) = await notifier.sql("SELECT due_at - now() AS wait FROM deliveries")
    assert 2 < row["wait"].total_seconds() <= 6
    await notifier.make_due()
    await notifier.settle()
    first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    assert second.verified, second.fault
    assert await notifier.states() == [("delivered", 2)]


async def test_tries_end_in_failed_and_each_stands_in_the_log(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    receiver.answers.extend([500, lambda _received: web.Response(status=404, text="no such hook\x00")])
    await notifier.take(customers.endpoint(receiver.url, max_attempts=2), customers.notification())
    await notifier.settle()
    await notifier.make_due()
    await notifier.settle()
    rows = await notifier.sql("SELECT attempt, status, code, answer FROM attempts ORDER BY attempt")
    assert [(row["attempt"], row["status"], row["code"]) for row in rows] == [
        (1, 500, "bad_status"),
        (2, 404, "bad_status"),
    ]
    assert rows[1]["answer"] == "no such hook\ufffd"
    (report,) = await reports(notifier)
    assert [(line.outcome, line.attempts, line.status) for line in report.results] == [("failed", 2, 404)]


async def test_410_disables_the_endpoint_and_ends_what_waits_for_it(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    receiver.answers.extend([500, 410])
    await notifier.take(customers.endpoint(receiver.url), *map(customers.notification, (1, 2, 3)))
    await notifier.settle()
    await notifier.settle()
    assert len(receiver.received) == 2
    assert [state for state, _ in await notifier.states()] == ["disabled"] * 3
    outcomes = [line.outcome for report in await reports(notifier) for line in report.results]
    assert outcomes == ["disabled"] * 3


async def test_a_new_version_opens_the_endpoint_again(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    receiver.answers.append(410)
    await notifier.take(customers.endpoint(receiver.url), customers.notification(1))
    await notifier.settle()
    await notifier.take(customers.endpoint(receiver.url, version=2), customers.notification(2))
    await notifier.settle()
    assert [state for state, _ in await notifier.states()] == ["disabled", "delivered"]


async def test_an_older_version_that_comes_late_changes_nothing(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    await notifier.take(customers.endpoint(receiver.url, version=2))
    await notifier.take(customers.endpoint("https://old.example", version=1), customers.notification())
    await notifier.settle()
    assert len(receiver.received) == 1


async def test_a_notification_that_precedes_its_endpoint_waits_for_it(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    await notifier.take(customers.endpoint("https://old.example", version=1))
    await notifier.take(
        customers.notification(endpoint_version=2),
        customers.notification(endpoint_id=EndpointId("whk_unknown")),
    )
    await notifier.settle()
    assert await notifier.states() == [("pending", 0), ("pending", 0)]
    notifier.wake.clear()
    await notifier.take(
        customers.endpoint(receiver.url, version=2),
        customers.endpoint(receiver.url, endpoint_id=EndpointId("whk_unknown")),
    )
    assert notifier.wake.is_set()
    await notifier.settle()
    assert len(receiver.received) == 2


async def test_a_notification_that_comes_twice_makes_one_row(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    await notifier.take(customers.endpoint(receiver.url), *[customers.notification()] * 3)
    await notifier.settle()
    await notifier.take(customers.notification())
    await notifier.settle()
    assert len(receiver.received) == 1
    assert await notifier.states() == [("delivered", 1)]


async def test_a_hanging_endpoint_delays_no_other(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    gate = asyncio.Event()
    streams = [StreamId(f"str_{n:012x}") for n in range(30)]
    slow = EndpointId("whk_slow")
    async with WebhookReceiver() as hanging:
        hanging.answers.extend(answer_when(gate) for _ in streams)
        await notifier.take(customers.endpoint(hanging.url, endpoint_id=slow))
        await notifier.take(
            *(customers.notification(stream_id=stream, endpoint_id=slow) for stream in streams)
        )
        await notifier.courier.turn()
        await hanging.wait_until(lambda received: len(received) == 4, timeout_s=10)
        await notifier.courier.turn()
        assert notifier.courier.in_flight == 4
        await notifier.take(customers.endpoint(receiver.url), customers.notification())
        await notifier.courier.turn()
        await receiver.wait_for(lambda _one: True, timeout_s=10)
        assert len(hanging.received) == 4
        gate.set()
        await notifier.settle()
    assert {state for state, _ in await notifier.states()} == {"delivered"}


async def test_an_endpoint_that_is_slow_to_answer_gets_no_second_attempt_beside_the_first(
    notifier: Notifier, customers: Customers
) -> None:
    gate = asyncio.Event()
    async with WebhookReceiver() as hanging:
        hanging.answers.append(answer_when(gate))
        await notifier.take(customers.endpoint(hanging.url), customers.notification())
        await notifier.courier.turn()
        await notifier.admin.execute("UPDATE deliveries SET lease_until = lease_until - interval '2 s'")
        await notifier.take(customers.notification(stream_id=StreamId("str_00000000000b")))
        await notifier.courier.turn()
        assert notifier.courier.in_flight == 1
        gate.set()
        await notifier.settle()
        assert len(hanging.received) == 2


async def test_failing_endpoints_together_leave_half_of_the_slots_to_the_others(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    failing = [EndpointId(f"whk_failing{n}") for n in range(12)]
    await notifier.take(*(customers.endpoint(receiver.url, endpoint_id=one) for one in failing))
    await notifier.take(*(customers.notification(endpoint_id=one) for one in failing))
    await notifier.admin.execute("UPDATE endpoints SET failures = 1, failing_since = now()")
    await notifier.take(customers.endpoint(receiver.url), customers.notification())
    claims = await notifier.ledger.claim(at_most=16)
    claimed = [claim.endpoint.endpoint_id for claim in claims]
    assert ENDPOINT in claimed
    assert len(claimed) == 8 + 1
    assert await notifier.ledger.claim(at_most=16) == ()


async def test_first_attempts_follow_the_streams_order(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    sequences = (5, 2, 9, 1, 7, 3, 8, 4, 6, 10)
    await notifier.take(*map(customers.notification, sequences), customers.endpoint(receiver.url))
    receiver.answers.append(500)
    await notifier.settle()
    arrived = [received.payload["sequence"] for received in receiver.received]
    assert arrived == sorted(sequences)


async def test_a_notification_that_overtook_the_one_before_it_waits_for_it(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    first = customers.notification(1)
    second = customers.notification(2, follows=first.delivery_id)
    await notifier.take(customers.endpoint(receiver.url), second)
    await notifier.settle()
    assert receiver.received == []
    await notifier.take(first)
    await notifier.settle()
    assert [1, 2] == [received.payload["sequence"] for received in receiver.received]


async def test_a_notification_does_not_wait_for_ever_for_one_that_is_lost(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    lost = customers.notification(1)
    await notifier.take(customers.endpoint(receiver.url), customers.notification(2, follows=lost.delivery_id))
    await notifier.make_due()
    await notifier.settle()
    assert [2] == [received.payload["sequence"] for received in receiver.received]


async def test_a_redirect_is_not_followed(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    async with WebhookReceiver() as elsewhere:
        receiver.answers.append(
            lambda _received: web.Response(status=307, headers={"Location": elsewhere.url})
        )
        await notifier.take(customers.endpoint(receiver.url), customers.notification())
        await notifier.settle()
        assert elsewhere.received == []
    (logged,) = await notifier.sql("SELECT status, code FROM attempts")
    assert (logged["status"], logged["code"]) == (307, "redirect_refused")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://10.1.2.3/hook", "address_blocked"),
        ("https://[::1]/hook", "address_blocked"),
        ("https://169.254.169.254/latest", "address_blocked"),
        ("http://customer.example/hook", "url_refused"),
    ],
)
async def test_an_address_that_is_not_public_fails_for_good_and_says_why(
    notifier: Notifier, customers: Customers, url: str, code: str
) -> None:
    await notifier.take(customers.endpoint(url), customers.notification())
    await notifier.settle()
    (report,) = await reports(notifier)
    assert report.results[0].outcome == "failed"
    assert report.results[0].error.startswith(f"{code}: ")


async def test_an_unreadable_secret_fails_its_own_deliveries_only(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    broken = EndpointId("whk_broken")
    await notifier.take(
        customers.endpoint(receiver.url, endpoint_id=broken, sealed_secrets=("gibberish",)),
        customers.endpoint(receiver.url),
        customers.notification(endpoint_id=broken),
        customers.notification(),
    )
    await notifier.settle()
    rows = await notifier.sql("SELECT endpoint_id, state, error FROM deliveries ORDER BY endpoint_id DESC")
    assert [(row["endpoint_id"], row["state"]) for row in rows] == [
        (broken, "failed"),
        (ENDPOINT, "delivered"),
    ]
    assert rows[0]["error"].startswith("secret_unreadable: ")
    assert len(receiver.received) == 1


async def test_while_a_secret_is_rotated_the_old_one_still_verifies_by_the_standard(
    notifier: Notifier, customers: Customers
) -> None:
    secrets = (customers.seal(SECRET), customers.seal(OLD_SECRET))
    async with WebhookReceiver(secrets=[OLD_SECRET]) as receiver:
        receiver.answers.append(200)
        await notifier.take(
            customers.endpoint(receiver.url, sealed_secrets=secrets), customers.notification()
        )
        await notifier.settle()
        (received,) = receiver.received
    assert (received.standard_ok, received.signature_ok) == (True, False)


async def test_an_endpoint_that_is_switched_off_ends_its_deliveries_unsent(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    receiver.answers.append(500)
    await notifier.take(customers.endpoint(receiver.url), customers.notification(1))
    await notifier.settle()
    await notifier.take(customers.endpoint(receiver.url, version=2, active=False), customers.notification(2))
    await notifier.settle()
    assert [state for state, _ in await notifier.states()] == ["disabled", "disabled"]
    assert len(receiver.received) == 1


async def test_after_ten_failures_only_one_probe_goes_out(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    receiver.answers.extend([500] * 10)
    await notifier.take(customers.endpoint(receiver.url), *map(customers.notification, range(1, 16)))
    await notifier.settle()
    assert len(receiver.received) == 10
    await notifier.make_due()
    await notifier.courier.turn()
    assert notifier.courier.in_flight == 1
    await notifier.settle()
    assert {state for state, _ in await notifier.states()} >= {"delivered"}
    (health,) = await notifier.sql("SELECT failures, paused_until FROM endpoints")
    assert (health["failures"], health["paused_until"]) == (0, None)


async def test_retry_after_pauses_the_whole_endpoint(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    receiver.answers.append(lambda _received: web.Response(status=429, headers={"Retry-After": "9"}))
    await notifier.take(customers.endpoint(receiver.url), *map(customers.notification, (1, 2)))
    await notifier.settle()
    assert len(receiver.received) == 1
    (row,) = await notifier.sql("SELECT extract(epoch FROM paused_until - now())::float AS s FROM endpoints")
    assert 6 < row["s"] <= 9


async def test_two_couriers_send_each_delivery_once(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    streams = [StreamId(f"str_{n:012x}") for n in range(40)]
    await notifier.take(customers.endpoint(receiver.url))
    await notifier.take(*(customers.notification(stream_id=stream) for stream in streams))
    claims = await asyncio.gather(*(notifier.ledger.claim(at_most=3) for _ in range(4)))
    ids = [claim.delivery_id for batch in claims for claim in batch]
    assert len(ids) == len(set(ids))
    await notifier.ledger.release([claim for batch in claims for claim in batch])
    await notifier.settle()
    assert len(receiver.received) == len(receiver.distinct()) == 40


async def test_what_a_dead_process_held_is_sent_again_under_the_same_webhook_id(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    await notifier.take(customers.endpoint(receiver.url), customers.notification())
    (lost,) = await notifier.ledger.claim(at_most=1)
    await notifier.settle()
    assert receiver.received == []
    await notifier.admin.execute("UPDATE deliveries SET due_at = now(), lease_until = now()")
    await notifier.settle()
    assert [received.id for received in receiver.received] == [lost.public_event_id]


async def test_a_lost_lease_writes_nothing_but_the_log(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    gate = asyncio.Event()
    receiver.answers.append(answer_when(gate))
    await notifier.take(customers.endpoint(receiver.url), customers.notification())
    await notifier.courier.turn()
    await notifier.admin.execute("UPDATE deliveries SET fence = fence + 1")
    gate.set()
    await notifier.settle()
    assert await notifier.states() == [("pending", 0)]
    assert await reports(notifier) == []
    assert len(await notifier.sql("SELECT 1 FROM attempts")) == 1


async def test_at_the_end_late_leases_are_given_back(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    receiver.answers.append(answer_when(asyncio.Event()))
    await notifier.take(customers.endpoint(receiver.url), customers.notification())
    await notifier.courier.turn()
    await notifier.courier.stop(grace_s=0)
    (row,) = await notifier.sql("SELECT due_at <= now() AS due, lease_until, attempts FROM deliveries")
    assert (row["due"], row["lease_until"], row["attempts"]) == (True, None, 0)


async def test_what_ends_in_one_turn_is_one_report_for_each_organization(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    other = OrganizationId("org_other")
    theirs = EndpointId("whk_theirs")
    streams = [StreamId(f"str_{n:012x}") for n in range(3)]
    await notifier.take(
        customers.endpoint(receiver.url),
        customers.endpoint(receiver.url, endpoint_id=theirs, organization_id=other),
        customers.notification(endpoint_id=theirs, organization_id=other),
        *(customers.notification(stream_id=stream) for stream in streams),
    )
    await notifier.courier.turn()
    await receiver.wait_until(lambda received: len(received) == 4, timeout_s=10)
    await notifier.courier.stop(grace_s=10)
    batches = sorted((report.organization_id, len(report.results)) for report in await reports(notifier))
    assert batches == [(ORGANIZATION, 3), (other, 1)]


async def test_no_tenant_sees_or_takes_the_rows_of_another(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    await notifier.take(customers.endpoint(receiver.url), customers.notification())
    await notifier.settle()
    for organization_id in (None, OrganizationId("org_other")):
        async with notifier.database.transaction(organization_id) as session:
            connection = await session.connection()
            for table in ("endpoints", "deliveries", "attempts"):
                seen = await connection.exec_driver_sql(f"SELECT 1 FROM {table}")
                assert seen.all() == []


async def test_reading_in_bulk_shows_a_row_under_its_own_tenant_only(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    notification = customers.notification()
    await notifier.take(customers.endpoint(receiver.url), notification)
    shown = {}
    for tenant in (ORGANIZATION, "org_other"):
        wanted = json.dumps({tenant: [{"delivery_id": notification.delivery_id}]})
        async with notifier.database.transaction() as session:
            connection = await session.connection()
            rows = await connection.execute(
                text("SELECT * FROM read_deliveries(CAST(:wanted AS jsonb))"), {"wanted": wanted}
            )
            shown[tenant] = len(rows.all())
    assert shown == {ORGANIZATION: 1, "org_other": 0}


async def test_the_trace_of_the_event_reaches_the_customer(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    trace.configure()
    with trace.span("handler"):
        trace_id = trace.current_trace_id()
        await notifier.take(customers.endpoint(receiver.url), customers.notification())
    await notifier.settle()
    headers: dict[str, Any] = {name.lower(): value for name, value in receiver.received[0].headers}
    assert headers["traceparent"].split("-")[1] == trace_id


async def test_old_deliveries_are_forgotten_with_their_log(
    notifier: Notifier, customers: Customers, receiver: WebhookReceiver
) -> None:
    await notifier.take(customers.endpoint(receiver.url), *map(customers.notification, (1, 2)))
    await notifier.settle()
    await notifier.admin.execute(
        "UPDATE deliveries SET finished_at = now() - interval '31 d' WHERE sequence = 1"
    )
    assert await notifier.ledger.forget(keep_days=30) is False
    kept = await notifier.sql("SELECT sequence FROM deliveries JOIN attempts USING (delivery_id)")
    assert [row["sequence"] for row in kept] == [2]
