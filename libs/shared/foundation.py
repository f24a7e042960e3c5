"""What every service stands on, put together once: database, two broker connections, inbox, outbox, store, keyring."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from faststream.rabbit import RabbitBroker

from shared.broker import Publisher, consume_broker, publish_broker
from shared.clock import utc_now
from shared.closures import Closures
from shared.consumer import Consumer
from shared.contract import Service, spec_of
from shared.database import Database
from shared.epoch import Epoch
from shared.events import StreamClosed
from shared.keyring import Keyring
from shared.loops import Loop, Maintenance, Relay, Sweeper
from shared.middleware import Middleware
from shared.object_places import Buckets
from shared.object_store import FolderObjectStore, ObjectStore
from shared.outbox import Outbox
from shared.patient_store import PatientObjectStore
from shared.settings import ServiceSettings
from shared.topology import SETTLE_S


@dataclass(frozen=True)
class Foundation:
    service: Service
    database: Database
    outbox: Outbox
    consumer: Consumer
    store: ObjectStore
    keyring: Keyring
    consuming: RabbitBroker
    publishing: RabbitBroker
    epoch: Epoch
    sweeper: Sweeper
    graceful_timeout_s: float
    loops: tuple[Loop, ...]


def folder_store(settings: ServiceSettings) -> FolderObjectStore | None:
    """The store in a local folder; None where objects lie in S3."""
    if not settings.object_store_folder:
        return None
    return FolderObjectStore(
        Path(settings.object_store_folder),
        public_base_url=settings.public_base_url,
        signing_secret=settings.url_signing_secret.get_secret_value(),
        clock=utc_now,
    )


@asynccontextmanager
async def object_store(settings: ServiceSettings) -> AsyncIterator[ObjectStore]:
    """The one store that is configured, open until the end; it tries each call once."""
    folder = folder_store(settings)
    if folder is not None:
        yield folder
        return
    from shared.s3_store import S3Access, open_s3  # noqa: PLC0415 - the SDK takes a second to load

    access = S3Access(
        region=settings.s3_region,
        endpoint_url=settings.s3_endpoint_url.rstrip("/") or None,
        public_endpoint_url=settings.s3_public_endpoint_url.rstrip("/") or None,
        access_key_id=settings.s3_access_key_id or None,
        secret_access_key=settings.s3_secret_access_key.get_secret_value() or None,
    )
    async with open_s3(access, buckets(settings)) as store:
        yield store


def buckets(settings: ServiceSettings) -> Buckets:
    prefix = settings.s3_key_prefix.rstrip("/")
    return Buckets(
        shared=settings.s3_bucket_name,
        prefix=f"{prefix}/" if prefix else "",
        dedicated=settings.s3_organization_buckets,
    )


@asynccontextmanager
async def foundation(service: Service, settings: ServiceSettings) -> AsyncIterator[Foundation]:
    """Build everything that a service stands on; nothing is connected before it is first used."""
    url = settings.rabbitmq_url.get_secret_value()
    database = Database(
        settings.database_url.get_secret_value(),
        schema=service,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
    )
    try:
        async with object_store(settings) as store:
            yield _assemble(service, settings, database=database, store=store, url=url)
    finally:
        await database.close()


def _assemble(
    service: Service, settings: ServiceSettings, *, database: Database, store: ObjectStore, url: str
) -> Foundation:
    outbox = Outbox(service)
    closures = Closures(database) if service in spec_of(StreamClosed.name).consumers else None
    middleware = Middleware(
        service=service,
        database=database,
        outbox=outbox,
        work_concurrency=settings.work_concurrency,
        closures=closures,
    )
    consuming = consume_broker(url, graceful_timeout_s=settings.graceful_timeout_s)
    epoch = Epoch(service=service, url=url, database=database, settle_s=SETTLE_S)
    publishing = publish_broker(url, on_doubt=epoch.doubt)
    consumer = Consumer(
        service=service,
        broker=consuming,
        middleware=middleware,
        prefetch=settings.prefetch,
        work_prefetch=settings.work_concurrency,
    )
    relay = Relay(
        service=service, database=database, publisher=Publisher(publishing), epoch=epoch, outbox=outbox
    )
    sweeper = Sweeper(database=database, middleware=middleware, subscriptions=consumer.subscriptions)
    return Foundation(
        service=service,
        database=database,
        outbox=outbox,
        consumer=consumer,
        store=PatientObjectStore(store),
        keyring=Keyring.from_text(settings.secrets_keyring.get_secret_value()),
        consuming=consuming,
        publishing=publishing,
        epoch=epoch,
        sweeper=sweeper,
        graceful_timeout_s=settings.graceful_timeout_s,
        loops=(relay.loop(), sweeper.loop(), Maintenance(service=service, database=database).loop()),
    )
