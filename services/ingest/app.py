"""Ingest's composition root."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic

import structlog

from ingest.adapters.journal import PostgresJournal
from ingest.adapters.leases import PostgresLeases
from ingest.adapters.mixer import FfmpegMixer
from ingest.adapters.pages import NoPages, Pages, PageSource
from ingest.adapters.register import PostgresRegister
from ingest.adapters.remux.dial import Dialler
from ingest.adapters.remux.openers import RemuxedSources
from ingest.adapters.repair_cutter import FileCutter, RangedCutter
from ingest.adapters.repair_folder import repair_folder
from ingest.adapters.repair_rows import RecordingRows, RepairRows
from ingest.adapters.spool import FolderSpool
from ingest.adapters.streamlink import StreamlinkPages
from ingest.domain.freshness import freshness_of
from ingest.domain.policy import TrackerPolicy
from ingest.domain.recorder import Followed, Progress
from ingest.domain.windows import WindowPlan
from ingest.loops import ClaimPolicy, FollowerFactory, Followers
from ingest.settings import IngestSettings
from ingest.subscribers import register
from ingest.workflow.archive import Archive
from ingest.workflow.follower import FollowerPolicy
from ingest.workflow.intake import Intake, Wake
from ingest.workflow.ports import Leases, MediaSource, OpenSource, SourceAddress
from ingest.workflow.repair import RecordingIntake, RepairPolicy, Repairs
from ingest.workflow.sound import Mixer
from ingest.workflow.source import HlsSource
from shared.allocator import return_free_memory
from shared.clock import utc_now
from shared.closures import Closures
from shared.database import Database, DatabaseUnavailable
from shared.events import Lane
from shared.foundation import Foundation, foundation
from shared.http_client import SafeHttpClient
from shared.loops import Loop
from shared.media_runner import MediaRunner, detect_sandbox
from shared.runtime import Application
from shared.scratch import scratch_folder

log = structlog.get_logger()

MICROSECONDS = 1_000_000
MEMORY_EVERY_S = 15.0
THREADS = 32


@asynccontextmanager
async def build(settings: IngestSettings) -> AsyncIterator[Application]:
    # Most of them wait for the disk; too few, and a body waits for a thread until it passes for a silent store.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="ingest"))
    user_agent = f"tldr-highlight-api/{settings.version}"
    client = SafeHttpClient(allowed=settings.allowed_addresses, user_agent=user_agent)
    async with foundation("ingest", settings) as base, client as http:
        wake = Wake()
        spool = FolderSpool(scratch_folder(settings.spool_folder), limit_bytes=settings.spool_bytes)
        # A connection of its own: no crowd of commits and messages makes this process look dead.
        leases = Database(settings.database_url.get_secret_value(), schema="ingest", pool_size=1)
        remuxed = await _remuxed_sources(settings, base, http)
        mixer = await _mixer(settings)
        openers = {**source_openers(settings, base, http, mixer), **remuxed.openers()}
        followers = _followers(settings, base, spool, wake, leases=PostgresLeases(leases), openers=openers)
        intake = Intake(register=PostgresRegister(), closures=Closures(base.database), wake=wake)
        wake_repairs = asyncio.Event()
        register(base.consumer, intake, RecordingIntake(register=RecordingRows(), wake=wake_repairs))
        repairs = await _repairs(settings, base, http, spool, wake_repairs)
        try:
            yield Application(
                base,
                ops_host=settings.ops_host,
                ops_port=settings.ops_port,
                loops=(
                    followers.loop(),
                    repairs.loop(),
                    Loop("memory", _return_memory, pause_s=MEMORY_EVERY_S),
                ),
                on_stop=partial(_stop, followers, repairs),
            )
        finally:
            spool.close()
            remuxed.close()
            await leases.close()


async def _return_memory() -> bool:
    return_free_memory()
    return False


async def _stop(followers: Followers, repairs: Repairs) -> None:
    try:
        await repairs.stop()
        await followers.stop()
    except DatabaseUnavailable as error:
        log.warning("leases_run_out_by_themselves", reason=str(error))


def _followers(
    settings: IngestSettings,
    base: Foundation,
    spool: FolderSpool,
    wake: Wake,
    *,
    leases: Leases,
    openers: Mapping[str, OpenSource],
) -> Followers:
    factory = FollowerFactory(
        journal=PostgresJournal(base.database, base.outbox),
        archive=Archive(base.store, spool),
        openers=openers,
        keyring=base.keyring,
        clock=utc_now,
        policy=follower_policy(settings),
        gate=asyncio.Semaphore(settings.vod_fetches),
    )
    policy = ClaimPolicy(
        capacities={Lane.LIVE: settings.capacity, Lane.VOD: settings.vod_capacity},
        lease_s=settings.lease_s,
        renew_s=settings.renew_s,
    )
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    return Followers(owner=owner, leases=leases, open_follower=factory, wake=wake, policy=policy)


async def _remuxed_sources(
    settings: IngestSettings, base: Foundation, http: SafeHttpClient
) -> RemuxedSources:
    return RemuxedSources.under(
        f"{settings.spool_folder}/remux",
        http=http,
        store=base.store,
        dialler=Dialler(allowed=settings.allowed_addresses),
        runner=MediaRunner(sandbox=await detect_sandbox()),
        limit_bytes=settings.remux_bytes,
        clock=utc_now,
    )


async def _mixer(settings: IngestSettings) -> FfmpegMixer:
    runner = MediaRunner(sandbox=await detect_sandbox())
    return FfmpegMixer(runner, work_root=scratch_folder(f"{settings.spool_folder}/sound"))


async def _repairs(
    settings: IngestSettings, base: Foundation, http: SafeHttpClient, spool: FolderSpool, wake: asyncio.Event
) -> Repairs:
    runner = MediaRunner(sandbox=await detect_sandbox())
    folder, most = repair_folder(settings.repair_folder, now=utc_now()), settings.recording_bytes
    whole = FileCutter(http, runner, work_root=folder, max_bytes=most)
    return Repairs(
        owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        jobs=RepairRows(base.database, base.outbox),
        cutter=RangedCutter(http, runner, work_root=folder, max_bytes=most, whole=whole),
        archive=Archive(base.store, spool),
        keyring=base.keyring,
        clock=utc_now,
        policy=RepairPolicy(plan=follower_policy(settings).plan),
        wake=wake,
    )


def source_openers(
    settings: IngestSettings, base: Foundation, http: SafeHttpClient, mixer: Mixer | None = None
) -> Mapping[str, OpenSource]:
    """Who opens which kind of source."""

    def hls(stream: Followed, address: SourceAddress, progress: Progress) -> MediaSource:
        return HlsSource(
            http,
            address.url,
            headers=address.headers,
            target_height=settings.target_height,
            variant=progress.cursor.variant,
            freshness=freshness_of(stream.source, address.url, is_joined=progress.cursor.joined),
            mixer=mixer,
        )

    pages: Pages = StreamlinkPages() if settings.pages == "streamlink" else NoPages()

    def page(stream: Followed, address: SourceAddress, progress: Progress) -> MediaSource:
        def open_hls(url: str) -> MediaSource:
            return hls(stream, SourceAddress(url=url, headers={}), progress)

        return PageSource(address.url, pages=pages, open_hls=open_hls, now_s=monotonic)

    return {"hls": hls, "twitch": page, "youtube": page}


def follower_policy(settings: IngestSettings) -> FollowerPolicy:
    return FollowerPolicy(
        tracker=TrackerPolicy(
            start_patience_s=settings.start_patience_s,
            stall_floor_s=settings.stall_s,
            dead_after_s=settings.dead_after_s,
            drain_floor_s=settings.drain_s,
            segment_budget_s=settings.segment_budget_s,
        ),
        plan=WindowPlan(
            target_us=round(settings.window_s * MICROSECONDS),
            overlap_us=round(settings.window_overlap_s * MICROSECONDS),
        ),
        parallel_fetches=settings.parallel_fetches,
        windows_ahead=settings.windows_ahead,
        pending_entries=settings.spool_entries,
    )
