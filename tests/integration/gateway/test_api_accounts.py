"""Registration, keys and scopes over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher

from gateway.adapters.argon2 import Argon2Passwords
from tests.integration.gateway.api_client import PASSWORD_TEXT, GatewayApp


def _registration(**changes: str) -> dict[str, str]:
    return {"email": "a@example.com", "password": PASSWORD_TEXT, "company_name": "Acme"} | changes


async def test_registration_gives_user_organization_and_a_key_that_works(gateway_app: GatewayApp) -> None:
    answer = await gateway_app.client.post("/v1/auth/register", json=_registration(email="A@Example.com"))

    body = answer.json()
    assert (answer.status_code, body["email"], body["role"]) == (200, "a@example.com", "owner")
    assert (body["organization"]["name"], body["organization"]["plan"]) == ("Acme", "starter")
    listed = await gateway_app.client.get("/v1/streams", headers={"X-API-Key": body["api_key"]})
    assert (listed.status_code, listed.json()) == (200, {"items": [], "page": 1, "per_page": 10, "total": 0})


async def test_neither_password_nor_key_is_stored_in_the_clear(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    [user] = await gateway_app.rows("SELECT * FROM users", customer)
    [key] = await gateway_app.rows("SELECT * FROM api_keys", customer)
    assert PASSWORD_TEXT not in str(user)
    assert customer.api_key.rpartition("_")[2][:43] not in str(key)
    assert len(key["secret_hash"]) == 64


async def test_a_second_account_with_the_same_address_is_a_conflict(gateway_app: GatewayApp) -> None:
    await gateway_app.client.post("/v1/auth/register", json=_registration())

    answer = await gateway_app.client.post("/v1/auth/register", json=_registration(email="A@EXAMPLE.com"))

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tldr:problem:email_taken")


async def test_two_registrations_at_once_make_one_account(gateway_app: GatewayApp) -> None:
    calls = [gateway_app.client.post("/v1/auth/register", json=_registration()) for _ in range(3)]

    answers = await asyncio.gather(*calls)

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]


async def test_weak_passwords_and_bad_addresses_are_refused_without_repeating_them(
    gateway_app: GatewayApp,
) -> None:
    for field, value in (("password", "short"), ("password", "aaaaaaaaaaaaaaaaaaa"), ("email", "no-address")):
        answer = await gateway_app.client.post("/v1/auth/register", json=_registration(**{field: value}))
        body = answer.json()
        assert (answer.status_code, body["errors"][0]["field"]) == (422, field)
        assert value not in answer.text


async def test_missing_and_invalid_keys_are_told_apart(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    wrong_secret = customer.api_key[:-8] + "AAAAAAAA"

    for headers, detail in (
        ({}, "Missing API key"),
        ({"X-API-Key": "nonsense"}, "Invalid API key"),
        ({"X-API-Key": wrong_secret}, "Invalid API key"),
        ({"X-API-Key": "tldr_live_ÿ"}, "Invalid API key"),
    ):
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = await gateway_app.client.get("/v1/streams", headers=encoded)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["detail"]) == (401, detail)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_scoped_key_may_do_what_its_scopes_say_and_no_more(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.client.post(
        "/v1/api-keys", json={"name": "reader", "scopes": ["streams:read"]}, headers=customer.headers
    )
    reader = {"X-API-Key": made.json()["api_key"]}

    may_read = await gateway_app.client.get("/v1/streams", headers=reader)
    may_write = await gateway_app.client.post(
        "/v1/streams", json={"source_url": "https://example.com/a.m3u8"}, headers=reader
    )
    may_make_keys = await gateway_app.client.post(
        "/v1/api-keys", json={"name": "x", "scopes": ["streams:write"]}, headers=reader
    )

    assert (may_read.status_code, may_write.status_code, may_make_keys.status_code) == (200, 403, 403)
    assert may_write.json()["detail"] == "Insufficient scope: streams:write is needed"


async def test_a_key_cannot_grant_scopes_that_it_does_not_have(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = await gateway_app.client.post(
        "/v1/api-keys", json={"name": "keys", "scopes": ["keys:write"]}, headers=customer.headers
    )

    answer = await gateway_app.client.post(
        "/v1/api-keys",
        json={"name": "more", "scopes": ["streams:write"]},
        headers={"X-API-Key": made.json()["api_key"]},
    )

    assert answer.status_code == 403


async def test_a_revoked_key_stops_working_with_the_next_request(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = (
        await gateway_app.client.post(
            "/v1/api-keys", json={"name": "gone", "scopes": ["streams:read"]}, headers=customer.headers
        )
    ).json()

    revoked = await gateway_app.client.delete(f"/v1/api-keys/{made['id']}", headers=customer.headers)
    again = await gateway_app.client.delete(f"/v1/api-keys/{made['id']}", headers=customer.headers)
    used = await gateway_app.client.get("/v1/streams", headers={"X-API-Key": made["api_key"]})

    assert (revoked.status_code, again.status_code, used.status_code) == (200, 404, 401)


async def test_a_key_that_has_expired_is_refused(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    made = (
        await gateway_app.client.post(
            "/v1/api-keys",
            json={"name": "visitor", "scopes": ["streams:read"], "expires_at": expires_at.isoformat()},
            headers=customer.headers,
        )
    ).json()
    visitor = {"X-API-Key": made["api_key"]}

    before = await gateway_app.client.get("/v1/streams", headers=visitor)
    [stored] = await gateway_app.rows(
        "SELECT expires_at FROM api_keys WHERE key_id = :key_id", customer, key_id=made["id"]
    )
    await gateway_app.rows(
        "UPDATE api_keys SET expires_at = now() WHERE key_id = :key_id RETURNING 1",
        customer,
        key_id=made["id"],
    )
    after = await gateway_app.client.get("/v1/streams", headers=visitor)

    assert datetime.fromisoformat(made["expires_at"]) == stored["expires_at"] == expires_at
    assert before.status_code == 200
    assert (after.status_code, after.json()["detail"]) == (401, "Invalid API key")


async def test_a_key_without_an_expiry_says_so(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    made = await gateway_app.client.post(
        "/v1/api-keys", json={"name": "for good", "scopes": ["streams:read"]}, headers=customer.headers
    )

    assert made.json()["expires_at"] is None


@pytest.mark.parametrize(
    "expires_at", ["2020-01-01T00:00:00Z", "2100-01-01T00:00:00", "9999-12-31T23:59:59-12:00", "soon"]
)
async def test_a_time_of_expiry_must_be_ahead_and_exact(gateway_app: GatewayApp, expires_at: str) -> None:
    customer = await gateway_app.register()

    answer = await gateway_app.client.post(
        "/v1/api-keys",
        json={"name": "x", "scopes": ["streams:read"], "expires_at": expires_at},
        headers=customer.headers,
    )

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "expires_at")


async def test_another_organizations_key_cannot_be_revoked(gateway_app: GatewayApp) -> None:
    first, second = await gateway_app.register("first"), await gateway_app.register("second")
    [key] = await gateway_app.rows("SELECT key_id FROM api_keys", first)

    answer = await gateway_app.client.delete(f"/v1/api-keys/{key['key_id']}", headers=second.headers)

    assert answer.status_code == 404
    assert (await gateway_app.client.get("/v1/streams", headers=first.headers)).status_code == 200


async def test_a_suspended_organization_is_refused(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    await gateway_app.rows("UPDATE organizations SET suspended = true RETURNING 1", customer)

    answer = await gateway_app.client.get("/v1/streams", headers=customer.headers)

    assert (answer.status_code, answer.json()["detail"]) == (403, "The organization is suspended")


async def test_passwords_are_hashed_by_argon2id() -> None:
    hashed = await Argon2Passwords().hash(PASSWORD_TEXT)

    assert hashed.startswith("$argon2id$")
    assert PasswordHasher().verify(hashed, PASSWORD_TEXT)
