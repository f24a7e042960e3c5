"""The gateway's API in this process, on a real database, called as customers call it."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI
from sqlalchemy import text

from gateway.app import api, outbound_client, read_replica, use_cases
from gateway.settings import GatewaySettings
from shared import trace
from shared.database import Database
from shared.foundation import Foundation, foundation
from shared.keyring import Keyring, generate_key

ALLOWED = "127.0.0.1:8123"
SOURCE = "https://cdn.example.com/live/master.m3u8?token=hidden"
PASSWORD_TEXT = "Correct-horse-42"


@dataclass(frozen=True)
class Customer:
    """A registered organization with the key of its owner."""

    organization_id: str
    api_key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.api_key}


@dataclass(frozen=True)
class GatewayApp:
    app: FastAPI
    client: httpx2.AsyncClient
    base: Foundation
    settings: GatewaySettings

    @property
    def database(self) -> Database:
        return self.base.database

    @property
    def keyring(self) -> Keyring:
        return self.base.keyring

    async def register(self, name: str = "crowdcover") -> Customer:
        answer = await self.client.post(
            "/v1/auth/register",
            json={"email": f"{name}@example.com", "password": PASSWORD_TEXT, "company_name": name},
        )
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return Customer(body["organization"]["id"], body["api_key"])

    async def submit(self, customer: Customer, **changes: Any) -> dict[str, Any]:
        answer = await self.client.post(
            "/v1/streams", json={"source_url": SOURCE} | changes, headers=customer.headers
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def connect(self, customer: Customer, **changes: Any) -> dict[str, Any]:
        answer = await self.client.post(
            "/v1/connections/100ms", json={"name": "rooms"} | changes, headers=customer.headers
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def rows(
        self, statement: str, customer: Customer | None = None, **values: Any
    ) -> list[dict[str, Any]]:
        """Rows as this customer may see them."""
        async with self.database.transaction(customer.organization_id if customer else None) as session:  # type: ignore[arg-type]
            result = await (await session.connection()).execute(text(statement), values)
            return [dict(row) for row in result.mappings()]

    async def emitted(self, name: str) -> list[dict[str, Any]]:
        """Bodies of the events of this name in the outbox, in order of writing."""
        rows = await self.rows("SELECT body FROM outbox WHERE event_name = :name ORDER BY seq", name=name)
        return [json.loads(row["body"]) for row in rows]


def settings_for(database_url: str, folder: Path, **changes: Any) -> GatewaySettings:
    values: dict[str, Any] = {
        "database_url": database_url,
        "rabbitmq_url": "amqp://guest:guest@127.0.0.1:1/unused",
        "ops_port": 0,
        "http_port": 0,
        "object_store_folder": str(folder),
        "public_base_url": "http://test",
        "url_signing_secret": "s" * 32,
        "secrets_keyring": generate_key(),
        "outbound_allow": ALLOWED,
        "source_check_s": 0,
    }
    return GatewaySettings(_env_file=None, **values | changes)


class QuickPasswords:
    """Stands in for argon2id, which takes a tenth of a second of two cores by design."""

    async def hash(self, password: str) -> str:
        return f"quick:{sha256(password.encode()).hexdigest()}"


@asynccontextmanager
async def running_api(database_url: str, folder: Path, **changes: Any) -> AsyncIterator[GatewayApp]:
    trace.configure()
    settings = settings_for(database_url, folder, database_pool_size=5, **changes)
    async with (
        foundation("gateway", settings) as base,
        read_replica(settings) as replica,
        outbound_client(settings) as http,
    ):
        cases = use_cases(base, settings, replica=replica, passwords=QuickPasswords(), http=http)
        app = api(cases, settings)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with (
            aclosing(cases.rate_limits),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            yield GatewayApp(app, client, base, settings)
