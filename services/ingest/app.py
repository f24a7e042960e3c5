"""Ingest's composition root."""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import structlog

from ingest.adapters.journal import PostgresJournal
from ingest.adapters.leases import PostgresLeases
from ingest.adapters.register import PostgresRegister
from ingest.adapters.spool import FolderSpool
from ingest.domain.policy import TrackerPolicy
from ingest.domain.recorder import Followed, Progress
from ingest.domain.windows import WindowPlan
from ingest.loops import ClaimPolicy, FollowerFactory, Followers
from ingest.settings import IngestSettings
from ingest.subscribers import register
from ingest.workflow.archive import Archive
from ingest.workflow.follower import FollowerPolicy
from ingest.workflow.intake import Intake, Wake
from ingest.workflow.ports import MediaSource, OpenSource, SourceAddress
from ingest.workflow.source import HlsSource
from shared.clock import utc_now
from shared.closures import Closures
from shared.database import DatabaseUnavailable
from shared.foundation import Foundation, foundation
from shared.http_client import SafeHttpClient
from shared.runtime import Application
from shared.scratch import scratch_folder

log = structlog.get_logger()

MICROSECONDS = 1_000_000


@asynccontextmanager
async def build(settings: IngestSettings) -> AsyncIterator[Application]:
    user_agent = f"tldr-highlight-api/{settings.version}"
    client = SafeHttpClient(allowed=settings.allowed_addresses, user_agent=user_agent)
    async with foundation("ingest", settings) as base, client as http:
        wake = Wake()
        spool = FolderSpool(scratch_folder(settings.spool_folder), limit_bytes=settings.spool_bytes)
        followers = _followers(settings, base, http, spool, wake)
        intake = Intake(register=PostgresRegister(), closures=Closures(base.database), wake=wake)
        register(base.consumer, intake)
        try:
            yield Application(
                base,
                ops_host=settings.ops_host,
                ops_port=settings.ops_port,
                loops=(followers.loop(),),
                on_stop=partial(_stop, followers),
            )
        finally:
            spool.close()


async def _stop(followers: Followers) -> None:
    try:
        await followers.stop()
    except DatabaseUnavailable as error:
        log.warning("leases_run_out_by_themselves", reason=str(error))


def _followers(
    settings: IngestSettings, base: Foundation, http: SafeHttpClient, spool: FolderSpool, wake: Wake
) -> Followers:
    factory = FollowerFactory(
        journal=PostgresJournal(base.database, base.outbox),
        archive=Archive(base.store, spool),
        openers=source_openers(settings, base, http),
        keyring=base.keyring,
        clock=utc_now,
        policy=follower_policy(settings),
    )
    policy = ClaimPolicy(capacity=settings.capacity, lease_s=settings.lease_s, renew_s=settings.renew_s)
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    return Followers(
        owner=owner, leases=PostgresLeases(base.database), open_follower=factory, wake=wake, policy=policy
    )


def source_openers(
    settings: IngestSettings, base: Foundation, http: SafeHttpClient
) -> Mapping[str, OpenSource]:
    """Who opens which kind of source."""

    def hls(stream: Followed, address: SourceAddress, progress: Progress) -> MediaSource:
        return HlsSource(http, address.url, headers=address.headers, target_height=settings.target_height)

    return {"hls": hls}


def follower_policy(settings: IngestSettings) -> FollowerPolicy:
    return FollowerPolicy(
        tracker=TrackerPolicy(
            start_patience_s=settings.start_patience_s,
            stall_floor_s=settings.stall_s,
            dead_after_s=settings.dead_after_s,
            drain_floor_s=settings.drain_s,
        ),
        plan=WindowPlan(
            target_us=round(settings.window_s * MICROSECONDS),
            overlap_us=round(settings.window_overlap_s * MICROSECONDS),
        ),
        parallel_fetches=settings.parallel_fetches,
        windows_ahead=settings.windows_ahead,
        pending_entries=settings.spool_entries,
    )
