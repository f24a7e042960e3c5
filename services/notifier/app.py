"""Composition root of the notifier."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from notifier import subscribers
from notifier.adapters.intake import PostgresIntake
from notifier.adapters.ledger import PostgresLedger
from notifier.adapters.webhook_client import WebhookClient
from notifier.domain.signature import USER_AGENT
from notifier.loops import Courier, cleaner
from notifier.settings import NotifierSettings
from notifier.workflow import Deliveries, Notifications
from shared.clock import utc_now
from shared.foundation import foundation
from shared.http_client import SafeHttpClient
from shared.runtime import Application


@asynccontextmanager
async def build(settings: NotifierSettings) -> AsyncIterator[Application]:
    """The notifier, not yet started."""
    http = SafeHttpClient(allowed=settings.allowed_addresses, user_agent=USER_AGENT, schemes=("https",))
    async with foundation("notifier", settings) as base, http as client:
        wake = asyncio.Event()
        ledger = PostgresLedger(
            base.database,
            outbox=base.outbox,
            clock=utc_now,
            endpoint_concurrency=settings.endpoint_concurrency,
            suspect_concurrency=settings.delivery_concurrency // 2,
        )
        deliveries = Deliveries(
            ledger=ledger,
            sender=WebhookClient(client),
            secrets=base.keyring,
            clock=utc_now,
            spread=random.random,
        )
        courier = Courier(deliveries, wake=wake, concurrency=settings.delivery_concurrency)
        subscribers.register(base.consumer, Notifications(PostgresIntake(on_commit=wake.set)))
        yield Application(
            foundation=base,
            ops_host=settings.ops_host,
            ops_port=settings.ops_port,
            loops=(courier.loop(), cleaner(ledger, keep_days=settings.delivery_keep_days)),
            on_stop=partial(courier.stop, grace_s=base.graceful_timeout_s),
        )
