"""100ms connections over HTTP: made, seen, changed, rotated, deleted, and what their checks let in."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from gateway.domain.hundredms_signature import signature_of
from gateway.workflow.hundredms_connections import MAX_CONNECTIONS
from shared.http_server import HttpServer
from shared.ids import OrganizationId
from tests.integration.gateway.api_client import Customer, GatewayApp

PATH = "/v1/connections/100ms"
BODY = json.dumps({"id": "e-1", "type": "session.open.success", "data": {"room_id": "r"}}).encode()
SECRETS = {"secret", "hmac_secret"}


async def call(app: GatewayApp, customer: Customer, method: str, path: str, body: Any = None) -> Any:
    return await app.client.request(method, f"{PATH}{path}", json=body, headers=customer.headers)


async def keyed(app: GatewayApp, owner: Customer, *scopes: str) -> Customer:
    """The owner with another key, which may do this alone."""
    body = {"name": "narrow", "scopes": scopes}
    answer = await app.client.post("/v1/api-keys", json=body, headers=owner.headers)
    assert answer.status_code == 200, answer.text
    return Customer(owner.organization_id, answer.json()["api_key"])


async def post(app: GatewayApp, path: str, headers: dict[str, str], body: bytes = BODY) -> int:
    return int((await app.client.post(path, content=body, headers=headers)).status_code)


async def until(app: GatewayApp, connection_id: str, column: str) -> timedelta:
    """How far away the end of the older secret is, by the database's own clock."""
    async with app.database.transaction() as session:
        connection = await session.connection()
        await connection.execute(
            text("SELECT set_config('app.organization_id', :id, true)"),
            {"id": await organization(app, connection_id)},
        )
        statement = text(f"SELECT {column} - now() FROM hundredms_connections WHERE connection_id = :id")
        return (await connection.execute(statement, {"id": connection_id})).scalar_one()  # type: ignore[no-any-return]


async def organization(app: GatewayApp, connection_id: str) -> str:
    [row] = await app.rows("SELECT * FROM hundredms_connection(:id, NULL)", id=connection_id)
    return str(row["organization_id"])


async def test_a_connection_is_shown_without_its_secrets_to_its_owner_alone(gateway_app: GatewayApp) -> None:
    owner, other = await gateway_app.register("owner"), await gateway_app.register("other")
    made = await gateway_app.connect(owner, checks={"signature": True})

    [listed] = (await call(gateway_app, owner, "GET", "")).json()["items"]
    shown = (await call(gateway_app, owner, "GET", f"/{made['id']}")).json()
    hidden = await call(gateway_app, other, "GET", f"/{made['id']}")

    assert listed == shown == {key: value for key, value in made.items() if key not in SECRETS}
    assert len(made["secret"]) == len(made["hmac_secret"]) == 43
    assert made["checks"] == {"secret": True, "signature": True, "network": False}
    assert hidden.status_code == 404
    assert (await call(gateway_app, other, "GET", "")).json()["items"] == []


async def test_a_reading_key_sees_connections_and_changes_none(gateway_app: GatewayApp) -> None:
    owner = await gateway_app.register()
    made = await gateway_app.connect(owner)
    reader = await keyed(gateway_app, owner, "connections:read")

    seen = [(await call(gateway_app, reader, "GET", path)).status_code for path in ("", f"/{made['id']}")]
    answers = [
        await call(gateway_app, reader, "POST", "", {"name": "mine"}),
        await call(gateway_app, reader, "PATCH", f"/{made['id']}", {"name": "mine"}),
        await call(gateway_app, reader, "POST", f"/{made['id']}/secret", {}),
        await call(gateway_app, reader, "POST", f"/{made['id']}/hmac-secret", {}),
        await call(gateway_app, reader, "DELETE", f"/{made['id']}"),
    ]

    assert [200, 200] == seen
    assert [403] * 5 == [answer.status_code for answer in answers]
    assert "Insufficient scope: connections:write is needed" == answers[0].json()["detail"]


async def test_a_key_of_the_time_before_the_reading_scope_still_reads(gateway_app: GatewayApp) -> None:
    owner = await gateway_app.register()
    made = await gateway_app.connect(owner)
    writer = await keyed(gateway_app, owner, "connections:write")

    assert 200 == (await call(gateway_app, writer, "GET", f"/{made['id']}")).status_code


async def test_reading_a_connection_waits_for_nobody_who_changes_it(gateway_app: GatewayApp) -> None:
    owner = await gateway_app.register()
    made = await gateway_app.connect(owner)

    async with gateway_app.database.transaction(OrganizationId(owner.organization_id)) as session:
        await (await session.connection()).execute(text("SELECT 1 FROM hundredms_connections FOR UPDATE"))
        async with asyncio.timeout(4):  # a lock would be waited for longer
            seen = await call(gateway_app, owner, "GET", f"/{made['id']}")

    assert 200 == seen.status_code


async def test_an_organization_has_so_many_connections_and_no_more(gateway_app: GatewayApp) -> None:
    owner, other = await gateway_app.register("owner"), await gateway_app.register("other")
    made = await gateway_app.connect(owner)
    await gateway_app.rows(
        "INSERT INTO hundredms_connections (connection_id, organization_id, name, secret_hashes) "
        "SELECT 'con_' || n, :organization, 'one of many', '{}' FROM generate_series(2, :most) AS n RETURNING 1",
        owner,
        organization=owner.organization_id,
        most=MAX_CONNECTIONS,
    )

    refused = await call(gateway_app, owner, "POST", "", {"name": "one more"})
    await gateway_app.connect(other)
    await call(gateway_app, owner, "DELETE", f"/{made['id']}")
    again = await call(gateway_app, owner, "POST", "", {"name": "one more"})

    assert [409, 200] == [refused.status_code, again.status_code]
    assert "urn:tldr:problem:too_many_connections" == refused.json()["type"]


async def test_the_stored_row_gives_no_secret_away(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer, hmac_secret="given-by-100ms")

    [row] = await gateway_app.rows("SELECT * FROM hundredms_connections", customer)

    assert made["secret"] not in str(row)
    assert "given-by-100ms" not in str(row)
    context = f"connection:{made['id']}"
    assert gateway_app.keyring.decrypt(row["sealed_hmac_secrets"][0], context=context) == "given-by-100ms"


async def test_both_secrets_are_taken_until_the_database_says_that_the_older_one_ended(
    gateway_app: GatewayApp,
) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer)
    rotated = (
        await call(gateway_app, customer, "POST", f"/{made['id']}/secret", {"expires_in_s": 60})
    ).json()
    older, newer = ({made["secret_header"]: each["secret"]} for each in (made, rotated))

    assert timedelta(seconds=50) < await until(gateway_app, made["id"], "previous_secret_until")
    assert await until(gateway_app, made["id"], "previous_secret_until") <= timedelta(seconds=60)
    for path in (made["webhook_path"], "/webhooks/100ms"):
        assert [await post(gateway_app, path, each) for each in (older, newer)] == [200, 200]
    end = "UPDATE hundredms_connections SET previous_secret_until = now()"
    async with gateway_app.database.transaction(customer.organization_id) as session:  # type: ignore[arg-type]
        await (await session.connection()).execute(text(end))
    for path in (made["webhook_path"], "/webhooks/100ms"):
        assert [await post(gateway_app, path, each) for each in (older, newer)] == [401, 200]
    assert (await call(gateway_app, customer, "GET", f"/{made['id']}")).json()[
        "previous_secret_until"
    ] is None


async def test_a_rotation_takes_a_day_by_default_and_leaves_two_secrets_at_most(
    gateway_app: GatewayApp,
) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer, secret="the-first-secret-of-all")
    path = f"/{made['id']}/secret"

    second = (await call(gateway_app, customer, "POST", path, {"secret": "the-second-secret-of-all"})).json()
    third = (await call(gateway_app, customer, "POST", path, {})).json()

    ends = datetime.fromisoformat(third["previous_secret_until"]) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=55) < ends < timedelta(hours=24, minutes=5)
    statuses = [
        await post(gateway_app, made["webhook_path"], {made["secret_header"]: each["secret"]})
        for each in (made, second, third)
    ]
    assert statuses == [401, 200, 200]


async def test_without_overlap_the_older_secret_ends_at_once(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer)

    rotated = await call(gateway_app, customer, "POST", f"/{made['id']}/secret", {"expires_in_s": 0})

    assert rotated.json()["previous_secret_until"] is None
    assert await post(gateway_app, made["webhook_path"], {made["secret_header"]: made["secret"]}) == 401


async def test_signatures_alone_may_open_a_connection_and_their_secret_rotates_too(
    gateway_app: GatewayApp,
) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer, checks={"secret": False, "signature": True})
    rotated = (await call(gateway_app, customer, "POST", f"/{made['id']}/hmac-secret", {})).json()

    def signed(secret: str, prefix: str = "") -> dict[str, str]:
        return {"x-100ms-signature": prefix + signature_of(BODY, secret=secret)}

    for secret in (made["hmac_secret"], rotated["secret"]):
        assert await post(gateway_app, made["webhook_path"], signed(secret)) == 200
        assert await post(gateway_app, made["webhook_path"], signed(secret, "sha256=")) == 200
    assert await post(gateway_app, made["webhook_path"], signed(rotated["secret"]), BODY + b" ") == 401
    assert await post(gateway_app, made["webhook_path"], {made["secret_header"]: made["secret"]}) == 401
    await call(gateway_app, customer, "POST", f"/{made['id']}/hmac-secret", {"expires_in_s": 0})
    assert await post(gateway_app, made["webhook_path"], signed(made["hmac_secret"])) == 401


async def test_a_change_replaces_what_it_names_and_nothing_else(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer, options={"sensitivity": "high"})

    changed = await call(
        gateway_app, customer, "PATCH", f"/{made['id']}", {"name": "eu", "networks": ["::1"]}
    )
    again = await call(
        gateway_app,
        customer,
        "PATCH",
        f"/{made['id']}",
        {"checks": {"network": True}, "options": {"max_highlights": 3}},
    )

    assert (changed.status_code, again.status_code) == (200, 200)
    body = again.json()
    assert (body["name"], body["networks"]) == ("eu", ["::1/128"])
    assert body["checks"] == {"secret": True, "signature": False, "network": True}
    assert (body["options"]["max_highlights"], body["options"]["sensitivity"]) == (3, "medium")
    assert body["updated_at"] > made["updated_at"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"checks": {"secret": False}}, "checks"),
        ({"checks": {"network": True}}, "networks"),
        ({"checks": {"signature": True}}, "checks.signature"),
        ({"networks": ["10.0.0.1/8"]}, "networks"),
        ({"options": {"webhook_url": "https://example.com/x"}}, "options.webhook_url"),
        ({"unknown": 1}, "unknown"),
    ],
)
async def test_changes_that_cannot_be_made_name_the_field(
    gateway_app: GatewayApp, body: dict[str, Any], field: str
) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer)

    answer = await call(gateway_app, customer, "PATCH", f"/{made['id']}", body)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_a_deleted_connection_lets_nothing_in_and_frees_its_secret(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer)
    headers = {made["secret_header"]: made["secret"]}

    deleted = await call(gateway_app, customer, "DELETE", f"/{made['id']}")

    assert deleted.status_code == 200
    assert await post(gateway_app, made["webhook_path"], headers) == 401
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("PATCH", ""),
        ("POST", "/secret"),
        ("POST", "/hmac-secret"),
    ):
        body = None if method in ("GET", "DELETE") else {}
        answer = await call(gateway_app, customer, method, f"/{made['id']}{path}", body)
        assert answer.status_code == 404, (method, path, answer.text)
    again = await gateway_app.connect(customer, secret=made["secret"])
    assert await post(gateway_app, "/webhooks/100ms", headers) == 200
    assert again["id"] != made["id"]


async def test_another_organizations_connection_cannot_be_touched(gateway_app: GatewayApp) -> None:
    owner, other = await gateway_app.register("owner"), await gateway_app.register("other")
    made = await gateway_app.connect(owner)

    for method, path in (("DELETE", ""), ("PATCH", ""), ("POST", "/secret"), ("POST", "/hmac-secret")):
        body = None if method == "DELETE" else {}
        assert (await call(gateway_app, other, method, f"/{made['id']}{path}", body)).status_code == 404
    assert await post(gateway_app, made["webhook_path"], {made["secret_header"]: made["secret"]}) == 200


async def test_unknown_and_wrong_get_the_same_body_and_the_address_a_403(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer, checks={"network": True}, networks=["203.0.113.0/24"])
    right = {made["secret_header"]: made["secret"]}
    wrong = {made["secret_header"]: "another-secret-of-sixteen"}

    answers = [
        await gateway_app.client.post(path, content=BODY, headers=wrong)
        for path in (made["webhook_path"], "/webhooks/100ms/con_000000000000", "/webhooks/100ms")
    ]
    foreign = await gateway_app.client.post(made["webhook_path"], content=BODY, headers=right)

    bodies = [{key: value for key, value in each.json().items() if key != "trace_id"} for each in answers]
    assert {each.status_code for each in answers} == {401}
    assert bodies[0] == bodies[1] == bodies[2]
    assert foreign.status_code == 403
    assert "203.0.113" not in foreign.text


@pytest.mark.parametrize(
    ("trusted", "forwarded", "status"),
    [
        (("127.0.0.1",), "203.0.113.9", 200),
        (("127.0.0.1",), "203.0.113.9, 198.51.100.1", 403),
        (("127.0.0.1", "198.51.100.0/24"), "203.0.113.9, 198.51.100.1", 200),
        (("127.0.0.1",), "8.8.8.8, 203.0.113.9", 200),
        (("10.0.0.1",), "203.0.113.9", 403),
        ((), "203.0.113.9", 403),
    ],
)
async def test_the_address_is_what_trusted_proxies_say_and_not_what_the_sender_writes(
    gateway_app: GatewayApp, trusted: tuple[str, ...], forwarded: str, status: int
) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer, checks={"network": True}, networks=["203.0.113.0/24"])
    headers = {made["secret_header"]: made["secret"], "X-Forwarded-For": forwarded}
    server = HttpServer(gateway_app.app, host="127.0.0.1", port=0, forwarded_allow_ips=trusted)
    await server.start()
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
            answer = await client.post(made["webhook_path"], content=BODY, headers=headers)
    finally:
        await server.stop()

    assert answer.status_code == status


async def test_connections_of_the_release_before_go_on_as_they_were(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.connect(customer)

    [row] = await gateway_app.rows("SELECT * FROM find_connection(:id)", id=made["id"])

    assert row["connection_id"] == made["id"]
    assert len(row["secret_hashes"]) == 1
