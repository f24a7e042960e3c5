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


def test_every_route_says_what_it_does_and_answers_200(described: dict[str, Any]) -> None:
    for name, operation in _operations(described).items():
        assert operation.get("description"), name
        assert "200" in operation["responses"], name


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
