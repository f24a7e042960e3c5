"""What surrounds the routes: health, documents, errors, limits, headers, stored objects, a database that is away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from gateway.adapters.tables import metadata
from gateway.routes.edge import BodyLimit
from shared import metrics
from shared.database import Database
from tests.integration.gateway.api_client import SOURCE, GatewayApp, running_api


async def test_health_answers_without_a_key(gateway_app: GatewayApp) -> None:
    answer = await gateway_app.client.get("/health")

    assert answer.json() == {"status": "healthy", "service": "tldr-highlight-api", "version": "1.0.0"}


async def test_the_documents_need_no_other_host(gateway_app: GatewayApp) -> None:
    for path in ("/docs", "/redoc", "/docs/page.js", "/docs/page.css"):
        answer = await gateway_app.client.get(path)
        assert answer.status_code == 200
        assert "http://" not in answer.text and "https://" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_unknown_paths_and_methods_are_problems(gateway_app: GatewayApp) -> None:
    missing = await gateway_app.client.get("/v1/nothing")
    wrong_method = await gateway_app.client.put("/health")

    for answer, status in ((missing, 404), (wrong_method, 405)):
        body = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, body["status"]) == (status, status)
        assert len(body["trace_id"]) == 32
        assert answer.headers["x-trace-id"] == body["trace_id"]


async def test_a_wrong_method_names_all_that_are_right(gateway_app: GatewayApp) -> None:
    answer = await gateway_app.client.put("/v1/streams")

    assert answer.headers["allow"] == "GET, POST"
    assert answer.json()["detail"] == "PUT is not possible here: use GET, POST"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_of_another_type_is_told_what_to_send(
    gateway_app: GatewayApp, content_type: str
) -> None:
    answer = await gateway_app.client.post(
        "/v1/auth/register", content=b'{"email": "a@example.com"}', headers={"Content-Type": content_type}
    )

    assert (answer.status_code, answer.json()["type"]) == (415, "urn:tldr:problem:unsupported_media_type")
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"email": "\xff"}', b'{"email": %s}' % (b"9" * 5_000), b"{"]
)
async def test_what_the_parser_gives_up_on_is_malformed(gateway_app: GatewayApp, body: bytes) -> None:
    answer = await gateway_app.client.post(
        "/v1/auth/register", content=body, headers={"Content-Type": "application/json"}
    )

    assert (answer.status_code, answer.json()["type"]) == (400, "urn:tldr:problem:malformed")
    assert answer.json()["detail"] == "The body is not JSON"


async def test_faults_are_told_in_words_of_json_and_with_their_place(gateway_app: GatewayApp) -> None:
    body = {"email": "a@example.com", "password": "x" * 201, "plan": "pro"}

    told = await gateway_app.client.post("/v1/auth/register", json=body)
    nul = await gateway_app.client.post("/v1/auth/register", json=body | {"company_name": "a\x00"})
    blank = await gateway_app.client.post("/v1/auth/register", json=body | {"company_name": "  "})

    assert {error["field"]: error["message"] for error in told.json()["errors"]} == {
        "password": "must have at most 200 characters",
        "company_name": "is required",
        "plan": "is not a known field",
    }
    assert nul.json()["detail"] == "body: company_name: text must not contain U+0000 or lone surrogates"
    assert "company_name" in {error["field"] for error in blank.json()["errors"]}


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    with pytest.raises(HTTPException) as refusal:
        await BodyLimit(read, max_bytes=1024, within_s=0)({"type": "http", "headers": []}, never, _no_send)

    assert refusal.value.status_code == 408


async def test_after_the_body_the_connection_may_stay_silent() -> None:
    heard: Iterator[Message] = iter(
        [{"type": "http.request", "body": b"a", "more_body": False}, {"type": "http.disconnect"}]
    )
    turns = iter([0, 3])

    async def receive() -> Message:
        for _ in range(next(turns)):
            await asyncio.sleep(0)
        return next(heard)

    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        assert [(await receive())["type"] for _ in range(2)] == ["http.request", "http.disconnect"]

    await BodyLimit(read, max_bytes=1024, within_s=0)({"type": "http", "headers": []}, receive, _no_send)


async def _no_send(message: Message) -> None:
    raise AssertionError(message)


async def test_ids_that_cannot_be_are_not_found(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    for path in ("/v1/streams/%00", "/v1/highlights/a%00b", "/v1/webhooks/%00", "/objects/%00"):
        answer = await gateway_app.client.get(path, headers=customer.headers)
        assert answer.status_code == 404


async def test_a_callers_trace_goes_on_into_the_events(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = customer.headers | {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}

    answer = await gateway_app.client.post("/v1/streams", json={"source_url": SOURCE}, headers=headers)

    [row] = await gateway_app.rows("SELECT traceparent FROM outbox WHERE event_name = 'stream.online'")
    assert answer.headers["x-trace-id"] == trace_id
    assert row["traceparent"].split("-")[1] == trace_id


async def test_malformed_json_is_400_and_a_wrong_field_422_without_its_value(gateway_app: GatewayApp) -> None:
    malformed = await gateway_app.client.post(
        "/v1/auth/register", content=b"{", headers={"content-type": "application/json"}
    )
    wrong = await gateway_app.client.post(
        "/v1/auth/register",
        json={"email": 1, "password": ["pa55word"], "company_name": "x", "plan": "enterprise"},
    )

    assert (malformed.status_code, malformed.json()["detail"]) == (400, "The body is not JSON")
    assert wrong.status_code == 422
    assert {error["field"] for error in wrong.json()["errors"]} == {"email", "password", "plan"}
    assert "pa55word" not in wrong.text


async def test_bodies_are_limited_announced_or_not(gateway_app: GatewayApp) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    announced = await gateway_app.client.post("/v1/auth/register", content=b"x" * (1 << 21))
    streamed = await gateway_app.client.post("/v1/auth/register", content=chunks())

    for answer in (announced, streamed):
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:tldr:problem:body_too_large")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_answers_carry_security_headers_and_cors(gateway_app: GatewayApp) -> None:
    answer = await gateway_app.client.get("/health", headers={"Origin": "https://app.example.com"})
    preflight = await gateway_app.client.options(
        "/v1/streams",
        headers={
            "Origin": "https://app.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key",
        },
    )

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert preflight.status_code == 200


async def test_requests_are_counted_by_route_and_not_by_path(gateway_app: GatewayApp) -> None:
    counted = metrics.http_requests.labels("/streams/{stream_id}", "GET", "401")
    before = counted._value.get()

    await gateway_app.client.get("/v1/streams/str_000000000001")

    assert counted._value.get() == before + 1


async def test_stored_objects_are_served_by_signed_url_with_ranges(gateway_app: GatewayApp) -> None:
    store = gateway_app.base.store
    await store.put("clips/a/clip.mp4", b"0123456789")
    url = await store.signed_url("clips/a/clip.mp4", expires_s=60)

    whole = await gateway_app.client.get(url)
    head = await gateway_app.client.head(url)
    part = await gateway_app.client.get(url, headers={"Range": "bytes=2-4"})
    forged = await gateway_app.client.get(url.replace("clip.mp4", "other.mp4"))
    unsigned = await gateway_app.client.get("/objects/clips/a/clip.mp4")
    expired = await gateway_app.client.get(await store.signed_url("clips/a/clip.mp4", expires_s=-1))
    gone = await gateway_app.client.get(await store.signed_url("clips/b.mp4", expires_s=60))

    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (
        200,
        b"0123456789",
        "video/mp4",
    )
    assert (head.status_code, head.headers["content-length"]) == (200, "10")
    assert (part.status_code, part.content) == (206, b"234")
    assert [forged.status_code, unsigned.status_code, expired.status_code] == [403, 422, 403]
    assert gone.status_code == 404


@pytest.mark.parametrize(
    ("wanted", "status", "code", "length"),
    [
        ("bytes=10-", 416, "range_not_satisfiable", "bytes */10"),
        ("bytes=4-2", 400, "malformed", None),
        ("lines=1-2", 400, "malformed", None),
        ("nonsense", 400, "malformed", None),
    ],
)
async def test_a_range_that_cannot_be_served_is_a_problem(
    gateway_app: GatewayApp, wanted: str, status: int, code: str, length: str | None
) -> None:
    await gateway_app.base.store.put("clips/a/clip.mp4", b"0123456789")
    url = await gateway_app.base.store.signed_url("clips/a/clip.mp4", expires_s=60)

    answer = await gateway_app.client.get(url, headers={"Range": wanted})

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:tldr:problem:{code}")
    assert answer.headers.get("content-range") == length


async def test_a_database_that_is_away_is_503_with_the_seeds_words(
    gateway_app: GatewayApp, tmp_path: Path
) -> None:
    customer = await gateway_app.register()
    nowhere = "postgresql://nobody:secret@127.0.0.1:1/none"

    async with running_api(nowhere, tmp_path / "other") as other:
        answers = await asyncio.gather(
            other.client.get("/v1/streams", headers=customer.headers),
            other.client.post("/webhooks/100ms/con_000000000000", content=b"{}"),
        )
        health = await other.client.get("/health")

    for answer in answers:
        assert (answer.status_code, answer.json()["detail"]) == (503, "Service temporarily unavailable")
        assert answer.headers["retry-after"] == "2"
        assert "secret" not in answer.text
    assert health.status_code == 200


async def test_an_unforeseen_error_is_a_problem_without_its_text(
    gateway_app: GatewayApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = await gateway_app.register()

    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(gateway_app.app.state.use_cases.streams, "streams", broken)
    with capture_logs() as logged:
        answer = await gateway_app.client.get("/v1/streams", headers=customer.headers)

    assert "request_failed" in [entry["event"] for entry in logged]
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:tldr:problem:internal")
    assert "secret detail" not in answer.text
    assert answer.headers["x-trace-id"] == answer.json()["trace_id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/nowhere", "/v1/streams", "/health"])
async def test_a_log_line_has_the_status_as_a_number(gateway_app: GatewayApp, path: str) -> None:
    with capture_logs() as logged:
        answer = await gateway_app.client.get(path)

    [told] = [entry["status"] for entry in logged if entry["event"] == "request"]
    assert (answer.status_code, int) == (told, type(told))


async def test_the_migrations_make_the_declared_tables(gateway_database: Database) -> None:
    async with gateway_database.transaction() as session:
        rows = await (await session.connection()).execute(_COLUMNS)
        found = {(row.table_name, row.column_name, row.is_nullable == "YES") for row in rows}

    declared = {
        (table.name, column.name, bool(column.nullable))
        for table in metadata.tables.values()
        for column in table.columns
    }
    assert declared - found == set()


async def test_every_tenant_table_forces_row_level_security(gateway_database: Database) -> None:
    async with gateway_database.transaction() as session:
        rows = await (await session.connection()).execute(_PROTECTED)
        protected = {row.relname for row in rows}

    assert set(metadata.tables) - protected == set()


_COLUMNS = text(
    "SELECT table_name, column_name, is_nullable FROM information_schema.columns WHERE table_schema = 'gateway'"
)
_PROTECTED = text(
    "SELECT relname FROM pg_class WHERE relnamespace = 'gateway'::regnamespace "
    "AND relrowsecurity AND relforcerowsecurity"
)
