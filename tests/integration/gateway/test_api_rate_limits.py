"""Rate limits as customers meet them: the burst, the headers, whose budget it is, and what is never limited."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from gateway.routes.limit_headers import NAMES
from localcluster.redis import RedisServer
from localcluster.scratch_database import database_url, execute
from shared import metrics
from shared.database import Database
from shared.http_server import HttpServer
from shared.ids import OrganizationId
from tests.conftest import Postgres
from tests.integration.gateway.api_client import PASSWORD_TEXT, Customer, GatewayApp, running_api

LIMIT = 4


@pytest.fixture
async def limited(gateway_database: Database, tmp_path: Path) -> AsyncIterator[GatewayApp]:
    async with running_api(gateway_database.url, tmp_path, default_rate_limit=LIMIT) as app:
        yield app


async def read(app: GatewayApp, customer: Customer, path: str = "/v1/streams") -> httpx2.Response:
    return await app.client.get(path, headers=customer.headers)


async def mint(app: GatewayApp, customer: Customer, **changes: Any) -> httpx2.Response:
    body = {"name": "one more", "scopes": ["streams:read"]} | changes
    return await app.client.post("/v1/api-keys", json=body, headers=customer.headers)


async def minted(app: GatewayApp, customer: Customer, **changes: Any) -> Customer:
    answer = await mint(app, customer, **changes)
    assert answer.status_code == 200, answer.text
    return Customer(customer.organization_id, answer.json()["api_key"])


async def change(app: GatewayApp, customer: Customer, what: str) -> None:
    """Change the customer's organization, as an operator would."""
    async with app.database.transaction(OrganizationId(customer.organization_id)) as session:
        await (await session.connection()).execute(text(f"UPDATE organizations SET {what}"))


def limits_told(answer: httpx2.Response) -> set[str]:
    return {name for name in NAMES if name in answer.headers}


async def test_a_burst_meets_429_after_exactly_the_limit(limited: GatewayApp) -> None:
    customer = await limited.register()

    answers = [await read(limited, customer) for _ in range(LIMIT + 2)]

    assert [200] * LIMIT + [429, 429] == [answer.status_code for answer in answers]
    assert ["3", "2", "1", "0", "0", "0"] == [each.headers["x-ratelimit-remaining"] for each in answers]
    assert {str(LIMIT)} == {answer.headers["x-ratelimit-limit"] for answer in answers}


async def test_a_refusal_says_whose_budget_it_is_and_when_to_come_back(limited: GatewayApp) -> None:
    customer = await limited.register()
    for _ in range(LIMIT):
        await read(limited, customer)

    answer = await read(limited, customer)

    body, retry_after_s = answer.json(), int(answer.headers["retry-after"])
    assert "application/problem+json" == answer.headers["content-type"]
    assert (429, "Too Many Requests") == (body["status"], body["title"])
    assert ("urn:tldr:problem:rate_limit_exceeded", "key") == (body["type"], body["subject"])
    assert body["detail"].startswith("Rate limit exceeded: this API key may make 4 requests per hour.")
    assert 3590 <= retry_after_s <= 3601
    assert abs(int(answer.headers["x-ratelimit-reset"]) - time.time() - retry_after_s) <= 5
    assert '"key";q=4;w=3600, "organization";q=40;w=3600' == answer.headers["ratelimit-policy"]
    assert f'"key";r=0;t={retry_after_s}' == answer.headers["ratelimit"]


async def test_aliases_share_the_budget(limited: GatewayApp) -> None:
    customer = await limited.register()
    await read(limited, customer, "/v1/streams")

    answer = await read(limited, customer, "/api/v1/streams")

    assert "2" == answer.headers["x-ratelimit-remaining"]


async def test_each_key_has_a_budget_of_its_own(limited: GatewayApp) -> None:
    customer = await limited.register()
    other = await minted(limited, customer, rate_limit=2)

    statuses = [(await read(limited, other)).status_code for _ in range(3)]

    assert [200, 200, 429] == statuses
    assert 200 == (await read(limited, customer)).status_code


async def test_a_key_grants_no_more_than_it_may_itself(limited: GatewayApp) -> None:
    customer = await limited.register()
    own = await mint(limited, customer, rate_limit=3, scopes=["keys:write"])
    small = Customer(customer.organization_id, own.json()["api_key"])

    too_much = await mint(limited, small, rate_limit=4, scopes=["keys:write"])
    without = await mint(limited, small, scopes=["keys:write"])

    assert 3 == own.json()["rate_limit"]
    assert (422, "rate_limit") == (too_much.status_code, too_much.json()["errors"][0]["field"])
    assert "This key can grant at most 3 requests per hour" == too_much.json()["detail"]
    assert 3 == without.json()["rate_limit"]


async def test_the_plan_gives_the_limit_where_the_key_has_none(limited: GatewayApp) -> None:
    customer = await limited.register()
    await change(limited, customer, "plan = 'professional'")

    answer = await mint(limited, customer)

    assert 10 * LIMIT == answer.json()["rate_limit"]
    assert (
        f'"key";q={10 * LIMIT};w=3600, "organization";q={100 * LIMIT};w=3600'
        == (answer.headers["ratelimit-policy"])
    )


async def test_an_organizations_keys_share_its_quota(limited: GatewayApp) -> None:
    customer, stranger = await limited.register(), await limited.register("elsewhere")
    other = await minted(limited, customer)
    await change(limited, customer, "rate_limit = 3")

    accepted = [(await read(limited, each)).status_code for each in (customer, other)]
    refused = await read(limited, other)

    assert [200, 200] == accepted
    assert (429, "organization") == (refused.status_code, refused.json()["subject"])
    assert ("3", "0") == tuple(refused.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining"))
    assert 200 == (await read(limited, stranger)).status_code


async def test_errors_count_and_tell_the_limits_too(limited: GatewayApp) -> None:
    customer = await limited.register()
    reader = await minted(limited, customer)
    client, json_type = limited.client, {"Content-Type": "application/json"}

    answers = [
        await client.get("/v1/streams/str_none", headers=reader.headers),
        await client.post(
            "/v1/streams", json={"source_url": "https://a.example/a.m3u8"}, headers=reader.headers
        ),
        await client.post("/v1/streams", content=b"{", headers=reader.headers | json_type),
        await client.post("/v1/streams", json={}, headers=customer.headers),
        await client.post("/v1/streams", content=b"a=b", headers=customer.headers),
        await client.get("/v1/streams", headers={"X-API-Key": "tldr_live_nothing"}),
        await client.get("/v1/streams"),
    ]

    assert [404, 403, 400, 422, 415, 401, 401] == [answer.status_code for answer in answers]
    assert [set(NAMES)] * 7 == [limits_told(answer) for answer in answers]
    assert ["3", "2", "1"] == [each.headers["x-ratelimit-remaining"] for each in answers[:3]]
    assert answers[6].headers["ratelimit"].startswith('"address";r=2;')


async def test_a_suspended_organization_is_counted_and_told_why(limited: GatewayApp) -> None:
    customer = await limited.register()
    await change(limited, customer, "suspended = true")

    answer = await read(limited, customer)

    assert (403, "3") == (answer.status_code, answer.headers["x-ratelimit-remaining"])


async def test_what_must_always_be_reached_is_never_limited(limited: GatewayApp) -> None:
    customer = await limited.register()
    connection = await limited.connect(customer)
    hook = {"type": "room.started.success", "id": "1", "account_id": "a", "data": {}}
    secret = {connection["secret_header"]: connection["secret"]}

    for _ in range(LIMIT + 2):
        answers = [
            await limited.client.get("/health"),
            await limited.client.get("/docs"),
            await limited.client.get("/openapi.json"),
            await limited.client.get("/objects/none?expires=1&signature=none"),
            await limited.client.post(connection["webhook_path"], json=hook, headers=secret),
        ]
        assert 429 not in {answer.status_code for answer in answers}
        assert [set()] * 5 == [limits_told(answer) for answer in answers]
    assert [200] * 3 == [answer.status_code for answer in answers[:3]]


async def test_every_operation_with_a_key_is_limited_and_says_so(limited: GatewayApp) -> None:
    customer = await limited.register()
    described = (await limited.client.get("/openapi.json")).json()
    for _ in range(LIMIT):
        await read(limited, customer)
    operations = [
        (method, path, operation)
        for path, item in described["paths"].items()
        for method, operation in item.items()
        if "security" in operation
    ]

    assert len(operations) > 10
    for method, path, operation in operations:
        told = {status: set(answer.get("headers", ())) for status, answer in operation["responses"].items()}
        assert {"Retry-After", *NAMES} == told["429"], path
        assert all(set(NAMES) <= names for names in told.values()), path
        url = re.sub(r"\{[^}]+\}", "none", path)
        answer = await limited.client.request(method.upper(), url, content=b"{", headers=customer.headers)
        assert 429 == answer.status_code, path
    assert set(described["components"]["headers"]) == {"Retry-After", *NAMES}


async def test_browsers_may_read_the_headers(limited: GatewayApp) -> None:
    customer = await limited.register()

    answer = await limited.client.get(
        "/v1/streams", headers=customer.headers | {"Origin": "https://app.example.com"}
    )

    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"Retry-After", *NAMES} <= exposed


async def test_registrations_are_limited_by_the_address_behind_the_trusted_proxy(
    gateway_database: Database, tmp_path: Path
) -> None:
    async with running_api(gateway_database.url, tmp_path, registration_rate_limit=2) as app:
        server = HttpServer(app.app, host="127.0.0.1", port=0, forwarded_allow_ips=("127.0.0.1",))
        await server.start()
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
                statuses = [
                    (await _register(client, number, "203.0.113.9")).status_code for number in range(2)
                ]
                refused = await _register(client, 3, "203.0.113.9")
                elsewhere = await _register(client, 4, "203.0.113.10")
        finally:
            await server.stop()

    assert [200, 200] == statuses
    assert (429, "address") == (refused.status_code, refused.json()["subject"])
    assert 200 == elsewhere.status_code


async def _register(client: httpx2.AsyncClient, number: int, address: str) -> httpx2.Response:
    body = {"email": f"a{number}@example.com", "password": PASSWORD_TEXT, "company_name": "a"}
    return await client.post("/v1/auth/register", json=body, headers={"X-Forwarded-For": address})


async def test_a_gateway_that_comes_back_goes_on_counting_and_replicas_share(
    gateway_database: Database, tmp_path: Path
) -> None:
    settings = {"default_rate_limit": LIMIT}
    async with running_api(gateway_database.url, tmp_path, **settings) as first:
        customer = await first.register()
        await read(first, customer)
    async with (
        running_api(gateway_database.url, tmp_path, **settings) as second,
        running_api(gateway_database.url, tmp_path, **settings) as third,
    ):
        answers = [await read(each, customer) for each in (second, third, second, third)]

    assert ["2", "1", "0", "0"] == [answer.headers["x-ratelimit-remaining"] for answer in answers]
    assert 429 == answers[-1].status_code


async def test_when_postgresql_cannot_count_requests_pass_and_it_is_noted(
    limited: GatewayApp, postgres: Postgres
) -> None:
    customer, before = await limited.register(), _failures("postgresql")
    admin_url = database_url(postgres.admin_url, urlsplit(limited.database.url).path.removeprefix("/"))
    await execute(admin_url, "DROP FUNCTION gateway.take_rate_limits")

    with capture_logs() as logs:
        answers = [await read(limited, customer) for _ in range(LIMIT + 2)]

    assert {200} == {answer.status_code for answer in answers}
    assert set() == set().union(*map(limits_told, answers))
    assert LIMIT + 2 == _failures("postgresql") - before
    assert {"postgresql"} == {line["storage"] for line in logs if line["event"] == "limiter_away"}


async def test_redis_counts_and_postgresql_takes_over_when_it_dies(
    gateway_database: Database, tmp_path: Path, redis_server: RedisServer
) -> None:
    settings = {"default_rate_limit": LIMIT, "redis_url": redis_server.url}
    async with running_api(gateway_database.url, tmp_path, **settings) as app:
        customer = await app.register()
        in_redis = [await read(app, customer) for _ in range(2)]
        counted = await app.rows("SELECT subject FROM rate_limits")
        redis_server.kill()
        try:
            with capture_logs() as logs:
                without = [await read(app, customer) for _ in range(LIMIT + 1)]
        finally:
            redis_server.start()

    assert (["3", "2"], []) == ([each.headers["x-ratelimit-remaining"] for each in in_redis], counted)
    assert [200] * LIMIT + [429] == [answer.status_code for answer in without]
    assert ["redis"] == [line["storage"] for line in logs if line["event"] == "limiter_away"]


def _failures(storage: str) -> float:
    return float(metrics.rate_limit_failures.labels(storage)._value.get())
