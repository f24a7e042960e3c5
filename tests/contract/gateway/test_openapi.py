"""The committed description of the API, and what it promises of every route."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gateway.app import openapi_text
from gateway.routes.api import create_api

COMMITTED = Path(__file__).resolve().parents[3] / "docs" / "openapi.json"
OPEN = {
    ("get", "/v1/highlights/{highlight_id}/playlist.m3u8"),
    ("get", "/health"),
    ("post", "/v1/auth/register"),
    ("post", "/webhooks/100ms"),
    ("post", "/webhooks/100ms/{connection_id}"),
}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(openapi_text())
    return found


def _operations(described: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation
        for path, item in described["paths"].items()
        for method, operation in item.items()
    }


def test_the_committed_description_is_that_of_the_code() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == openapi_text(), (
        "run `python -m gateway --openapi docs/openapi.json` and read the difference"
    )


def test_every_route_but_the_open_ones_needs_a_key(described: dict[str, Any]) -> None:
    unguarded = {name for name, operation in _operations(described).items() if "security" not in operation}

    assert unguarded == OPEN


_OF_TUS = {
    ("post", "/v1/uploads"): "201",
    ("patch", "/v1/uploads/{upload_id}"): "204",
    ("delete", "/v1/uploads/{upload_id}"): "204",
}


def test_every_route_says_what_it_does_and_answers_200_or_as_tus_wants_it(described: dict[str, Any]) -> None:
    for name, operation in _operations(described).items():
        assert operation.get("description"), name
        wanted = _OF_TUS.get(name, "200")
        assert wanted in operation["responses"], name


def test_errors_are_described_as_the_problem_documents_that_they_are(described: dict[str, Any]) -> None:
    for name, operation in _operations(described).items():
        for status, answer in operation["responses"].items():
            if status >= "400":
                assert list(answer["content"]) == ["application/problem+json"], (name, status)


def test_only_what_can_happen_to_a_route_is_described(described: dict[str, Any]) -> None:
    operations = _operations(described)

    assert {"401", "403", "404"}.isdisjoint(operations["post", "/v1/auth/register"]["responses"])
    assert "409" in operations["post", "/v1/auth/register"]["responses"]
    assert "413" not in operations["get", "/v1/streams"]["responses"]
    assert "requestBody" in operations["post", "/webhooks/100ms"]
    playlist = operations["get", "/v1/highlights/{highlight_id}/playlist.m3u8"]["responses"]
    assert playlist.keys() == {"200", "403", "404", "410", "422", "503"}


def test_every_field_of_a_request_has_a_description_or_an_example(described: dict[str, Any]) -> None:
    for name, schema in described["components"]["schemas"].items():
        if name.endswith("Request"):
            bare = [
                field
                for field, about in schema["properties"].items()
                if not {"description", "examples", "$ref"} & about.keys()
            ]
            assert bare == [], name


def _app(prefix: str) -> FastAPI:
    return create_api(None, title="t", version="1", prefix=prefix, allowed_origins=(), max_body_bytes=1 << 20)


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", "/highlights/v2"])
def test_the_aliases_stand_under_any_canonical_prefix(prefix: str) -> None:
    client = TestClient(_app(prefix), raise_server_exceptions=False)

    for path in {prefix, "/v1", "/api/v1"}:
        assert client.put(f"{path}/streams").status_code == 405


def test_the_description_and_its_page_need_no_key() -> None:
    client = TestClient(_app("/v1"))

    for path in ("/openapi.json", "/docs", "/redoc"):
        assert client.get(path).status_code == 200
