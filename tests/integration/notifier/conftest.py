"""A notifier without a broker: a private database, customers' receivers, and a courier that is turned by hand."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from localcluster.scratch_database import database_url
from notifier.adapters.intake import PostgresIntake
from notifier.adapters.ledger import PostgresLedger
from notifier.adapters.webhook_client import WebhookClient
from notifier.domain.signature import USER_AGENT
from notifier.loops import Courier
from notifier.workflow import Deliveries, Notifications
from shared.addresses import HostPort
from shared.bootstrap import Roles, service_url, set_up
from shared.clock import utc_now
from shared.contract import SERVICES
from shared.database import Database
from shared.events import EndpointChanged, NotificationRequested
from shared.http_client import SafeHttpClient
from shared.ids import EndpointId, OrganizationId, StreamId, delivery_id, event_id, public_event_id
from shared.keyring import Keyring, generate_key
from shared.middleware import UnitOfWork
from shared.migrate import upgrade_service
from shared.outbox import Outbox
from tests.conftest import Postgres

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ORGANIZATION = OrganizationId("org_0123456789ab")
STREAM = StreamId("str_0123456789ab")
ENDPOINT = EndpointId("whk_0123456789ab")
PASSWORD = secrets.token_hex(12)


@dataclass
class Customers:
    """Makes the gateway's events; nothing here touches the notifier."""

    keyring: Keyring = field(default_factory=lambda: Keyring([generate_key()]))

    def endpoint(self, url: str, *, endpoint_id: EndpointId = ENDPOINT, **changes: Any) -> EndpointChanged:
        version = changes.get("version", 1)
        fields = {
            "event_id": event_id(endpoint_id, EndpointChanged.name, version),
            "organization_id": ORGANIZATION,
            "occurred_at": datetime.now(UTC),
            "endpoint_id": endpoint_id,
            "version": version,
            "active": True,
            "sealed_url": self.seal(url, endpoint_id),
            "sealed_secrets": (self.seal(SECRET, endpoint_id),),
        }
        return EndpointChanged.model_validate(fields | changes)

    def seal(self, plain: str, endpoint_id: EndpointId = ENDPOINT) -> str:
        return self.keyring.encrypt(plain, context=f"endpoint:{endpoint_id}")

    def notification(
        self, sequence: int = 1, *, endpoint_id: EndpointId = ENDPOINT, **changes: Any
    ) -> NotificationRequested:
        stream_id = changes.get("stream_id", STREAM)
        public = public_event_id(stream_id, "highlight.created", sequence)
        delivery = delivery_id(endpoint_id, public)
        fields = {
            "event_id": event_id(stream_id, NotificationRequested.name, delivery),
            "organization_id": ORGANIZATION,
            "occurred_at": datetime.now(UTC),
            "stream_id": stream_id,
            "delivery_id": delivery,
            "endpoint_id": endpoint_id,
            "endpoint_version": 1,
            "public_event_id": public,
            "type": "highlight.created",
            "sequence": sequence,
            "body": f'{{"id":"{public}", "type":"highlight.created",  "sequence":{sequence}, "title":"Tör ⚽"}}',
        }
        return NotificationRequested.model_validate(fields | changes)


@dataclass
class Notifier:
    """What the service is made of, and shortcuts for tests; `sql` looks in as the superuser."""

    database: Database
    outbox: Outbox
    notifications: Notifications
    ledger: PostgresLedger
    courier: Courier
    wake: asyncio.Event
    admin: "asyncpg.Connection[asyncpg.Record]"

    async def take(self, *events: EndpointChanged | NotificationRequested) -> None:
        """Handle events as the middleware would, one transaction each."""
        for event in events:
            async with self.database.transaction(event.organization_id) as session:
                unit = UnitOfWork(session, self.outbox)
                if isinstance(event, EndpointChanged):
                    await self.notifications.keep_endpoint(event, unit)
                else:
                    await self.notifications.keep_notification(event, unit)

    async def settle(self, *, timeout_s: float = 20.0) -> None:
        """Turn the courier until nothing is in flight and nothing more is due."""
        async with asyncio.timeout(timeout_s):
            await self.courier.turn()
            while self.courier.in_flight:
                await self.wake.wait()
                await self.courier.turn()

    async def make_due(self) -> None:
        """Let the time of every retry come, and every pause end."""
        await self.admin.execute("UPDATE deliveries SET due_at = now() WHERE state = 'pending'")
        await self.admin.execute("UPDATE endpoints SET paused_until = NULL")

    async def sql(self, query: str, *arguments: Any) -> "list[asyncpg.Record]":
        return await self.admin.fetch(query, *arguments)

    async def states(self) -> list[tuple[str, int]]:
        rows = await self.sql("SELECT state, attempts FROM deliveries ORDER BY stream_id, sequence")
        return [(row["state"], row["attempts"]) for row in rows]


@pytest.fixture(scope="session")
async def notifier_url(postgres: Postgres) -> AsyncIterator[tuple[str, str]]:
    """Addresses of a migrated database: the administrator's, and that of the service's own role."""
    name = f"notifier_{secrets.token_hex(5)}"
    roles = Roles(name)
    server = await asyncpg.connect(postgres.admin_url)
    await server.execute(f"CREATE DATABASE {name}")
    admin_url = database_url(postgres.admin_url, name)
    await set_up(admin_url, roles=roles, password=PASSWORD)
    await upgrade_service(admin_url, service="notifier", roles=roles)
    yield admin_url, service_url(admin_url, roles, "notifier", PASSWORD)
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    for role in (*map(roles.service, SERVICES), roles.owner):
        await server.execute(f'DROP ROLE "{role}"')
    await server.close()


class AnyLoopbackPort(frozenset[HostPort]):
    """An allow-list for tests: every port of 127.0.0.1, whichever the receivers get."""

    def __contains__(self, item: object) -> bool:
        return isinstance(item, HostPort) and item.host == "127.0.0.1"


@pytest.fixture
def customers() -> Customers:
    return Customers()


@pytest.fixture
async def admin(notifier_url: tuple[str, str]) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """The superuser, in a database without rows."""
    connection = await asyncpg.connect(notifier_url[0], server_settings={"search_path": "notifier"})
    await connection.execute("TRUNCATE endpoints, deliveries, attempts, outbox, inbox")
    yield connection
    await connection.close()


@pytest.fixture
async def service_database_url(
    notifier_url: tuple[str, str], admin: "asyncpg.Connection[asyncpg.Record]"
) -> str:
    """The address that the service itself is given, of a database without rows."""
    return notifier_url[1]


@pytest.fixture
async def notifier(
    service_database_url: str, admin: "asyncpg.Connection[asyncpg.Record]", customers: Customers
) -> AsyncIterator[Notifier]:
    url = service_database_url
    database, outbox, wake = Database(url, schema="notifier"), Outbox("notifier"), asyncio.Event()
    ledger = PostgresLedger(
        database, outbox=outbox, clock=utc_now, endpoint_concurrency=4, suspect_concurrency=8
    )
    http = SafeHttpClient(allowed=AnyLoopbackPort(), user_agent=USER_AGENT, schemes=("https",))
    async with http as client:
        deliveries = Deliveries(
            ledger=ledger,
            sender=WebhookClient(client),
            secrets=customers.keyring,
            clock=utc_now,
            spread=random.random,
        )
        courier = Courier(deliveries, wake=wake, concurrency=16)
        notifications = Notifications(PostgresIntake(on_commit=wake.set))
        yield Notifier(database, outbox, notifications, ledger, courier, wake, admin)
        await courier.stop(grace_s=0)
    await database.close()
