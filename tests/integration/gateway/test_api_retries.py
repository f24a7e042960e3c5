"""Another run of a stream that failed: what is announced, what is forgotten, and when there is none."""

from typing import Any

import pytest
from sqlalchemy import text

from shared.ids import OrganizationId
from tests.integration.gateway.api_client import SOURCE, Customer, GatewayApp

FAILED = (
    "status = 'error', cause = 'source_unreachable', error = 'away', ended = '{}', ended_at = now(), "
    "completed_at = now(), offered_us = 7"
)


async def ended(gateway_app: GatewayApp, customer: Customer, outcome: str = FAILED) -> str:
    body = await gateway_app.submit(customer, title="Final")
    await change(gateway_app, customer, f"UPDATE streams SET {outcome}")
    return str(body["id"])


async def change(gateway_app: GatewayApp, customer: Customer, statement: str) -> None:
    async with gateway_app.database.transaction(OrganizationId(customer.organization_id)) as session:
        await (await session.connection()).execute(text(statement))


async def retry(gateway_app: GatewayApp, customer: Customer, stream_id: str) -> Any:
    return await gateway_app.client.post(f"/v1/streams/{stream_id}/retry", headers=customer.headers)


async def test_a_failed_stream_runs_again_under_its_id_with_its_source_and_profile(
    gateway_app: GatewayApp,
) -> None:
    customer = await gateway_app.register()
    stream_id = await ended(gateway_app, customer)

    answer = await retry(gateway_app, customer, stream_id)

    body = answer.json()
    assert (200, "pending", None, "Final") == (
        answer.status_code,
        body["status"],
        body["error"],
        body["title"],
    )
    first, second = await gateway_app.emitted("stream.online")
    assert (0, 1) == (first["run"], second["run"])
    assert first["event_id"] != second["event_id"]
    # It may come as late as after the first submission.
    awaited = [event["source"].pop("awaited_until") for event in (first, second)]
    assert awaited[0] < awaited[1]
    same = ("stream_id", "source", "profile_key", "lane")
    assert [first[name] for name in same] == [second[name] for name in same]
    assert SOURCE == gateway_app.keyring.decrypt(
        second["source"]["sealed_url"], context=f"stream:{stream_id}"
    )


async def test_nothing_of_the_former_failure_is_left_to_fail_the_new_run(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    stream_id = await ended(gateway_app, customer)
    await change(
        gateway_app,
        customer,
        "INSERT INTO parked (event_id, service, organization_id, stream_id, event_name, code, reason) "
        f"VALUES ('e', 'ingest', '{customer.organization_id}', '{stream_id}', 'stream.online', 'c', 'r')",
    )

    await retry(gateway_app, customer, stream_id)

    [row] = await gateway_app.rows("SELECT * FROM streams", customer)
    forgotten = ("ended", "ended_at", "completed_at", "cause", "error", "selection", "started_at")
    assert {None} == {row[name] for name in forgotten}
    assert (1, 0) == (row["run"], row["offered_us"])
    assert [] == await gateway_app.rows("SELECT * FROM parked", customer)


async def test_a_second_request_finds_the_stream_running(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    stream_id = await ended(gateway_app, customer)
    await retry(gateway_app, customer, stream_id)

    answer = await retry(gateway_app, customer, stream_id)

    assert (409, 2) == (answer.status_code, len(await gateway_app.emitted("stream.online")))


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("status = 'processing'", "still runs"),
        ("status = 'cancelled', cause = 'stopped'", "stopped at your request"),
        ("status = 'completed'", "is complete"),
        ("status = 'completed', partial = true, cause = 'gaps'", "submit the source again"),
        ("status = 'error', cause = 'watchdog'", "Submit it again"),
    ],
)
async def test_streams_that_did_not_fail_are_not_run_again_and_told_why(
    gateway_app: GatewayApp, outcome: str, reason: str
) -> None:
    customer = await gateway_app.register()
    stream_id = await ended(gateway_app, customer, outcome)

    answer = await retry(gateway_app, customer, stream_id)

    assert (409, True) == (answer.status_code, reason in answer.json()["detail"])
    assert 1 == len(await gateway_app.emitted("stream.online"))


async def test_a_stream_of_another_organization_is_not_found(gateway_app: GatewayApp) -> None:
    stream_id = await ended(gateway_app, await gateway_app.register())

    answer = await retry(gateway_app, await gateway_app.register("other"), stream_id)

    assert 404 == answer.status_code
