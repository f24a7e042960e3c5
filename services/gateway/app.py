"""The gateway's composition root."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from functools import partial
from time import monotonic

from fastapi import FastAPI

from gateway.adapters.accounts import AccountRows, StoredApiKeys, StoredEmails
from gateway.adapters.argon2 import Argon2Passwords
from gateway.adapters.endpoints import EndpointRows
from gateway.adapters.hundredms import (
    HundredmsRows,
    StoredConnections,
    backlog_turns,
    due_connections,
    prune_webhooks,
)
from gateway.adapters.hundredms_api import HundredmsApi
from gateway.adapters.hundredms_connections import ConnectionRows
from gateway.adapters.hundredms_queue import WebhookQueue
from gateway.adapters.hundredms_recordings import HttpChats, RecordingRows, due_recordings
from gateway.adapters.postgres_rate_limits import PostgresRateLimits
from gateway.adapters.profile_files import default_profile
from gateway.adapters.projection_store import ProjectionStore, overdue_streams
from gateway.adapters.reachability import HttpOrigins
from gateway.adapters.replica import ReplicaReader
from gateway.adapters.retries import RetryRows
from gateway.adapters.streams import StreamRows
from gateway.adapters.timeline_store import TimelineStore
from gateway.adapters.transactions import opener, reader
from gateway.adapters.twitch import TwitchAccess, TwitchChannels
from gateway.adapters.uploads import ExpiredUploads, UploadRows
from gateway.domain.rate_limit import LimitPolicy
from gateway.domain.uploads import UploadCaps
from gateway.loops import hundredms_loops, loops
from gateway.routes.api import create_api
from gateway.routes.use_cases import UseCases
from gateway.settings import GatewaySettings
from gateway.subscribers import register
from gateway.workflow.absence import Absence
from gateway.workflow.accounts import Accounts, Passwords
from gateway.workflow.authentication import Authentication
from gateway.workflow.completion import Completer
from gateway.workflow.endpoints import Endpoints
from gateway.workflow.hundredms import Hundredms
from gateway.workflow.hundredms_connections import HundredmsConnections
from gateway.workflow.hundredms_gate import Gate
from gateway.workflow.hundredms_reception import Backlog, Reception
from gateway.workflow.hundredms_reconciliation import Reconciler
from gateway.workflow.hundredms_recordings import Recordings
from gateway.workflow.intake import Intake
from gateway.workflow.objects import FilesElsewhere, SignedObjects
from gateway.workflow.playback import Playback, PlaybackLinks
from gateway.workflow.projection import Projection
from gateway.workflow.public_events import PublicEvents
from gateway.workflow.rate_limits import Limiter, RateLimits, Standby
from gateway.workflow.reachability import Survey
from gateway.workflow.reads import Reader, ReplicaFirst
from gateway.workflow.retries import Retries
from gateway.workflow.streams import Streams
from gateway.workflow.timeline import Timelines
from gateway.workflow.uploads import Uploads, UploadSweep
from gateway.workflow.views import Views
from gateway.workflow.watchdog import Watchdog
from shared.broker import Publisher
from shared.clock import utc_now
from shared.database import Database
from shared.foundation import Foundation, folder_store, foundation
from shared.http_client import SafeHttpClient
from shared.loops import Loop
from shared.middleware import UnitOfWork
from shared.runtime import Api, Application


@asynccontextmanager
async def build(settings: GatewaySettings) -> AsyncIterator[Application]:
    async with (
        foundation("gateway", settings) as base,
        aclosing(_webhook_queue(base, settings)) as kept,
        read_replica(settings) as replica,
        outbound_client(settings) as http,
    ):
        background = _project(base, settings, hundredms_backlog(base, settings, kept))
        cases = use_cases(base, settings, replica=replica, http=http)
        async with aclosing(cases.rate_limits):
            yield Application(
                base,
                ops_host=settings.ops_host,
                ops_port=settings.ops_port,
                loops=(*background, *hundredms_loops(*hundredms_work(base, settings, http))),
                api=Api(
                    app=api(cases, settings),
                    host=settings.http_host,
                    port=settings.http_port,
                    trusted_proxies=settings.trusted_proxies,
                ),
            )


@asynccontextmanager
async def read_replica(settings: GatewaySettings) -> AsyncIterator[Database | None]:
    """The replica that is configured, open until the end; None where the primary does everything."""
    if settings.database_read_url is None:
        yield None
        return
    replica = Database(
        settings.database_read_url.get_secret_value(),
        schema="gateway",
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        read_only=True,
    )
    try:
        yield replica
    finally:
        await replica.close()


def outbound_client(settings: GatewaySettings) -> SafeHttpClient:
    """For addresses that customers gave, and for Twitch."""
    return SafeHttpClient(
        allowed=settings.allowed_addresses, user_agent=f"tldr-highlight-api/{settings.version}"
    )


def api(cases: UseCases, settings: GatewaySettings) -> FastAPI:
    return create_api(
        cases,
        title=settings.app_name,
        version=settings.version,
        prefix=settings.api_prefix,
        allowed_origins=settings.allowed_origins,
        max_body_bytes=settings.max_body_bytes,
    )


def use_cases(
    base: Foundation,
    settings: GatewaySettings,
    *,
    replica: Database | None = None,
    passwords: Passwords | None = None,
    http: SafeHttpClient | None = None,
) -> UseCases:
    """Everything that the API can do. Tests give quicker password hashes than argon2id.

    Without `http` no source is looked at.
    """
    intake, gate = _intake(base, settings), _gate(base)
    read = _view_reader(base, settings, replica)
    database, outbox = base.database, base.outbox
    return UseCases(
        rate_limits=RateLimits(
            authentication=Authentication(keys=StoredApiKeys(database), clock=utc_now),
            limiter=_limiter(base, settings),
            policy=_limit_policy(settings),
        ),
        accounts=_accounts(base, settings, passwords or Argon2Passwords()),
        streams=Streams(
            open_streams=opener(StreamRows, database=database, outbox=outbox),
            intake=intake,
            survey=_survey(settings, http),
            views=_views(base, settings, read),
            clock=utc_now,
        ),
        retries=Retries(
            open_retries=opener(RetryRows, database=database, outbox=outbox),
            views=_views(base, settings, _view_reader(base, settings, None)),
            clock=utc_now,
            start_deadline=timedelta(seconds=settings.stream_start_deadline_s),
        ),
        timelines=Timelines(read=read),
        endpoints=Endpoints(
            open_endpoints=opener(EndpointRows, database=database, outbox=outbox),
            keyring=base.keyring,
            clock=utc_now,
            entropy=secrets.token_bytes,
            allowed=settings.allowed_addresses,
        ),
        hundredms=_reception(base, settings, intake, gate),
        hundredms_connections=HundredmsConnections(
            open_connections=opener(ConnectionRows, database=database, outbox=outbox),
            keyring=base.keyring,
            clock=utc_now,
            entropy=secrets.token_bytes,
            on_change=gate.forget,
        ),
        objects=SignedObjects(
            files=folder_store(settings) or FilesElsewhere(),
            secret=settings.url_signing_secret.get_secret_value(),
            clock=utc_now,
        ),
        playback=Playback(
            read=read,
            store=base.store,
            secret=settings.url_signing_secret.get_secret_value(),
            clock=utc_now,
            expires_s=settings.link_expires_s,
        ),
        uploads=_uploads(base, settings),
    )


def _survey(settings: GatewaySettings, http: SafeHttpClient | None) -> Survey:
    if http is None:
        return Survey()
    access = TwitchAccess(
        client_id=settings.twitch_client_id,
        client_secret=settings.twitch_client_secret.get_secret_value(),
        api_url=settings.twitch_api_url,
        token_url=settings.twitch_token_url,
    )
    twitch = TwitchChannels(http, access=access, now_s=monotonic) if access.client_id else None
    return Survey(origins=HttpOrigins(http), twitch=twitch, within_s=settings.source_check_s)


def _uploads(base: Foundation, settings: GatewaySettings) -> Uploads:
    return Uploads(
        open_uploads=opener(UploadRows, database=base.database, outbox=base.outbox),
        store=base.store,
        caps=UploadCaps(
            max_bytes=settings.upload_max_bytes,
            total_bytes=settings.upload_total_bytes,
            unfinished=settings.upload_unfinished,
            unfinished_s=settings.upload_unfinished_s,
            finished_s=settings.upload_finished_s,
        ),
        clock=utc_now,
        entropy=secrets.token_bytes,
        now_s=monotonic,
        part_bytes=settings.upload_part_bytes,
    )


def upload_sweep(base: Foundation) -> UploadSweep:
    expired = ExpiredUploads(base.database)
    return UploadSweep(
        open_uploads=opener(UploadRows, database=base.database, outbox=base.outbox),
        expired=expired.listed,
        forget=expired.forget,
        store=base.store,
    )


def _views(base: Foundation, settings: GatewaySettings, read: Reader[TimelineStore]) -> Views:
    return Views(
        read=read,
        links=base.store,
        playback=playback_links(settings),
        expires_s=settings.link_expires_s,
    )


def _view_reader(
    base: Foundation, settings: GatewaySettings, replica: Database | None
) -> Reader[TimelineStore]:
    primary = reader(TimelineStore, database=base.database, outbox=base.outbox)
    if replica is None:
        return primary
    copy = reader(TimelineStore, database=replica, outbox=base.outbox)
    return ReplicaFirst(
        ReplicaReader(copy, patience_s=settings.database_read_patience_s),
        primary,
        absence=Absence(clock=monotonic),
    )


def playback_links(settings: GatewaySettings) -> PlaybackLinks:
    return PlaybackLinks(
        base_url=settings.public_base_url.rstrip("/") + settings.api_prefix,
        secret=settings.url_signing_secret.get_secret_value(),
        clock=utc_now,
    )


def _intake(base: Foundation, settings: GatewaySettings) -> Intake:
    return Intake(
        store=base.store,
        basis=default_profile(),
        keyring=base.keyring,
        clock=utc_now,
        entropy=secrets.token_bytes,
        allowed=settings.allowed_addresses,
        start_deadline_s=settings.stream_start_deadline_s,
    )


def _reception(base: Foundation, settings: GatewaySettings, intake: Intake, gate: Gate) -> Reception:
    return Reception(
        gate=gate,
        hundredms=_hundredms(base, intake),
        kept=_webhook_queue(base, settings),
        keyring=base.keyring,
        clock=utc_now,
    )


def _gate(base: Foundation) -> Gate:
    return Gate(connections=StoredConnections(base.database), keyring=base.keyring, clock=utc_now)


def _hundredms(base: Foundation, intake: Intake) -> Hundredms:
    tables = opener(HundredmsRows, database=base.database, outbox=base.outbox)
    return Hundredms(open_hundredms=tables, intake=intake, keyring=base.keyring)


def _webhook_queue(base: Foundation, settings: GatewaySettings) -> WebhookQueue:
    return WebhookQueue(url=settings.rabbitmq_url.get_secret_value(), publisher=Publisher(base.publishing))


def hundredms_backlog(base: Foundation, settings: GatewaySettings, kept: WebhookQueue) -> Backlog:
    return Backlog(
        turns=backlog_turns(base.database),
        kept=kept,
        gate=_gate(base),
        hundredms=_hundredms(base, _intake(base, settings)),
        keyring=base.keyring,
    )


def hundredms_work(
    base: Foundation, settings: GatewaySettings, http: SafeHttpClient
) -> tuple[Reconciler, Recordings]:
    """What is asked of 100ms, beside what it tells by itself."""
    database, outbox = base.database, base.outbox
    asked = HundredmsApi(
        http, base_url=settings.hundredms_api_url, clock=utc_now, entropy=secrets.token_bytes
    )
    reconciler = Reconciler(
        due=due_connections(database),
        open_tables=opener(HundredmsRows, database=database, outbox=outbox),
        api=asked,
        intake=_intake(base, settings),
        keyring=base.keyring,
        clock=utc_now,
        pause_s=settings.hundredms_reconcile_s,
    )
    recordings = Recordings(
        due=due_recordings(database),
        open_tables=opener(RecordingRows, database=database, outbox=outbox),
        chats=HttpChats(http),
        api=asked,
        keyring=base.keyring,
        clock=utc_now,
        pause_s=settings.hundredms_reconcile_s,
    )
    return reconciler, recordings


def _limit_policy(settings: GatewaySettings) -> LimitPolicy:
    return LimitPolicy(default=settings.default_rate_limit, registration=settings.registration_rate_limit)


def _limiter(base: Foundation, settings: GatewaySettings) -> Limiter:
    """PostgreSQL counts; Redis does, and PostgreSQL stands by, where there is one."""
    postgres = PostgresRateLimits(base.database)
    if settings.redis_url is None:
        return postgres
    from gateway.adapters.redis_rate_limits import RedisRateLimits  # noqa: PLC0415 - a client that few need

    return Standby(
        RedisRateLimits(settings.redis_url.get_secret_value()), postgres, absence=Absence(clock=monotonic)
    )


def _accounts(base: Foundation, settings: GatewaySettings, passwords: Passwords) -> Accounts:
    return Accounts(
        open_accounts=opener(AccountRows, database=base.database, outbox=base.outbox),
        emails=StoredEmails(base.database),
        passwords=passwords,
        keyring=base.keyring,
        clock=utc_now,
        entropy=secrets.token_bytes,
        limits=_limit_policy(settings),
    )


def _store_of(unit: UnitOfWork) -> ProjectionStore:
    return ProjectionStore(unit.session)


def _project(base: Foundation, settings: GatewaySettings, backlog: Backlog) -> tuple[Loop, ...]:
    public_events = PublicEvents(links=base.store, playback=playback_links(settings), clock=utc_now)
    completer = Completer(public_events=public_events, clock=utc_now)
    register(
        base.consumer,
        Projection(stores=_store_of, public_events=public_events, completer=completer, clock=utc_now),
    )
    watchdog = Watchdog(
        database=base.database,
        outbox=base.outbox,
        overdue=overdue_streams,
        stores=_store_of,
        completer=completer,
    )
    return loops(
        watchdog,
        backlog,
        prune_limits=PostgresRateLimits(base.database).prune,
        prune_webhooks=partial(prune_webhooks, base.database),
        prune_uploads=upload_sweep(base).turn,
    )


def openapi_text() -> str:
    """The API's description as it is committed under `docs/openapi.json`; needs no settings."""
    fields = GatewaySettings.model_fields
    described = create_api(
        None,
        title=fields["app_name"].default,
        version=fields["version"].default,
        prefix=fields["api_prefix"].default,
        allowed_origins=(),
        max_body_bytes=fields["max_body_bytes"].default,
    )
    return json.dumps(described.openapi(), indent=2, ensure_ascii=False) + "\n"
