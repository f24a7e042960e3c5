"""Ingest against a real PostgreSQL and a live HLS origin: everything archived, taken over, fenced, drained."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from ingest.adapters.journal import PostgresJournal
from ingest.adapters.leases import PostgresLeases
from ingest.adapters.register import PostgresRegister
from ingest.adapters.spool import FolderSpool
from ingest.domain.actions import EndCause
from ingest.domain.policy import TrackerPolicy
from ingest.domain.recorder import Entry
from ingest.loops import ClaimPolicy, FollowerFactory, Followers
from ingest.workflow.archive import Archive
from ingest.workflow.follower import FollowerPolicy
from ingest.workflow.intake import Intake, Wake
from ingest.workflow.ports import Lease, LeaseLost, Replica
from sandbox.film import make_film
from sandbox.origin import HlsOrigin, RecordingOrigin
from shared.addresses import HostPort, parse_allowed
from shared.clock import utc_now
from shared.closures import Closures
from shared.database import Database, DatabaseUnavailable
from shared.events import (
    Event,
    Lane,
    SegmentAnalyzed,
    SegmentMissed,
    SegmentReady,
    Source,
    StreamClosed,
    StreamEnded,
    StreamFlowing,
    StreamOffline,
    StreamOnline,
    Verdict,
)
from shared.http_client import SafeHttpClient
from shared.ids import Position, event_id, window_id
from shared.keyring import Keyring, generate_key
from shared.middleware import UnitOfWork
from shared.object_store import FolderObjectStore
from shared.outbox import Outbox
from tests.builders import ORGANIZATION, STREAM
from tests.conftest import Installation
from tests.fakes.ingest.openers import hls_openers

pytestmark = pytest.mark.needs_ffmpeg

KEYRING = Keyring([generate_key()])
SPEED = 20.0
CAPACITIES = {Lane.LIVE: 10, Lane.VOD: 10}
POLICY = FollowerPolicy(
    tracker=TrackerPolicy(start_patience_s=1.0, drain_floor_s=0.5, drain_targets=0.3, stall_floor_s=5)
)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=60)


def live(film: Path, **changes: Any) -> HlsOrigin:
    return HlsOrigin(film, **({"speed": SPEED, "initial_segments": 2} | changes))


def online(url: str, *, run: int = 0, lane: Lane = Lane.LIVE) -> StreamOnline:
    return StreamOnline(
        event_id=event_id(STREAM, StreamOnline.name, run),
        organization_id=ORGANIZATION,
        stream_id=STREAM,
        occurred_at=datetime.now(UTC),
        lane=lane,
        run=run,
        source=Source(sealed_url=KEYRING.encrypt(url, context=f"stream:{STREAM}"), display_url="x"),
        profile_key="profiles/0.json",
    )


def about(model: type[Event], **fields: Any) -> Any:
    return model.model_validate(
        {
            "event_id": event_id(STREAM, model.name, str(fields)),
            "organization_id": ORGANIZATION,
            "stream_id": STREAM,
            "occurred_at": datetime.now(UTC),
        }
        | fields
    )


@dataclass
class Bench:
    """One database, and replicas of ingest that share it."""

    installation: Installation
    database: Database
    outbox: Outbox
    http: SafeHttpClient
    wake: Wake = field(default_factory=Wake)
    journal: Any = None

    @property
    def intake(self) -> Intake:
        return Intake(register=PostgresRegister(), closures=Closures(self.database), wake=self.wake)

    async def handle(self, handler: Callable[[Any, UnitOfWork], Awaitable[None]], event: Event) -> None:
        async with self.database.transaction(event.organization_id) as session:
            await handler(event, UnitOfWork(session, self.outbox))

    def replica(self, owner: str, *, lease_s: float = 6.0, policy: FollowerPolicy = POLICY) -> Followers:
        folder = self.installation.folder
        spool_folder = folder / f"spool-{owner}"
        spool_folder.mkdir()
        store = FolderObjectStore(
            folder / "objects", public_base_url="http://x", signing_secret="s" * 32, clock=utc_now
        )
        factory = FollowerFactory(
            journal=self.journal or PostgresJournal(self.database, self.outbox),
            archive=Archive(store, FolderSpool(spool_folder, limit_bytes=10**9)),
            openers=hls_openers(self.http),
            keyring=KEYRING,
            clock=utc_now,
            policy=policy,
        )
        return Followers(
            owner=owner,
            leases=PostgresLeases(self.database),
            open_follower=factory,
            wake=Wake(),
            policy=ClaimPolicy(lease_s=lease_s, renew_s=lease_s / 3),
        )

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.installation.admin_url)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    async def value(self, query: str) -> Any:
        rows = await self.rows(query)
        return rows[0][0] if rows else None

    async def events(self, model: type[Event]) -> list[Any]:
        query = f"SELECT body FROM ingest.outbox WHERE event_name = '{model.name}' ORDER BY seq"
        return [model.model_validate_json(body) for (body,) in await self.rows(query)]

    async def until(self, replica: Followers, query: str, expected: Any, *, timeout_s: float = 20) -> None:
        """Turn the replica's loop until the query answers as expected."""
        async with asyncio.timeout(timeout_s):
            while await self.value(query) != expected:
                await turn(replica)

    async def until_ended(self, replica: Followers) -> None:
        await self.until(replica, "SELECT state FROM ingest.followed", "ended")


async def turn(replica: Followers) -> None:
    with suppress(DatabaseUnavailable):
        await replica.turn()
    await asyncio.sleep(0.05)


async def kill(replica: Followers) -> None:
    """As kill -9 does: nothing is finished, nothing given back."""
    tasks = [held.task for held in replica._held.values() if held.task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def bench_for(installation: Installation, *origins: RecordingOrigin) -> AsyncIterator[Bench]:
    allowed: frozenset[HostPort] = frozenset()
    for origin in origins:
        allowed |= parse_allowed(origin.base_url.removeprefix("http://"))
    database = Database(installation.database_url("ingest"), schema="ingest")
    async with SafeHttpClient(allowed=allowed, user_agent="test") as http:
        yield Bench(installation, database, Outbox("ingest"), http)
    await database.close()


STARTS = "SELECT sequence, start_us, duration_us FROM ingest.segments ORDER BY position"


async def assert_whole(bench: Bench, origin: HlsOrigin) -> None:
    """Every segment of the origin once, tiling exactly, and windows that tell of all of them."""
    rows = await bench.rows(STARTS)
    assert list(range(len(origin.window.segments))) == [sequence for sequence, _, _ in rows]
    assert all(after[1] == before[1] + before[2] for before, after in pairwise(rows))
    ready, (ended,) = await bench.events(SegmentReady), await bench.events(StreamEnded)
    assert [0] == [event.at_us for event in await bench.events(StreamFlowing)]
    assert list(range(len(ready))) == [event.index for event in ready]
    told = {ref.sequence for event in ready for ref in event.segments}
    assert set(range(len(rows))) == told
    ids = tuple(window_id(STREAM, Position(0, index)) for index in range(len(ready)))
    assert ids == ended.windows
    assert ids == tuple(
        each for (each,) in await bench.rows("SELECT window_id FROM ingest.windows ORDER BY index")
    )
    assert (len(rows), sum(row[2] for row in rows)) == (ended.segments, ended.media_duration_us)


async def test_a_live_stream_is_archived_whole_and_ends(installation: Installation, film: Path) -> None:
    async with live(film) as origin, bench_for(installation, origin) as bench:
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        origin.go_live()
        await bench.until_ended(bench.replica("a"))
        await assert_whole(bench, origin)
        (ended,) = await bench.events(StreamEnded)
        assert (EndCause.ENDLIST, 60_000_000, ()) == (ended.cause, ended.offered_us, ended.gap_indexes)
        assert [] == await bench.rows("SELECT * FROM ingest.leases")
        for key, size, digest in await bench.rows("SELECT key, size_bytes, sha256 FROM ingest.segments"):
            assert size == (installation.folder / "objects" / key).stat().st_size
            assert digest[:16] in key


class StaticAddress(RecordingOrigin):
    """One address for all streams of a room, as 100ms' `enableStaticUrl` makes it; `stream` is what it serves."""

    PATH = "/beam/customer/room"

    def __init__(self, stream: HlsOrigin) -> None:
        super().__init__(host="127.0.0.1", port=0, clock=utc_now)
        self.stream = stream

    @property
    def url(self) -> str:
        return f"{self.base_url}{self.PATH}/master.m3u8"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        return await self.stream.serve(request.clone(rel_url=request.path.replace(self.PATH, "/live", 1)))

    def asked(self, suffix: str) -> list[str]:
        return [each.path for each in self.requests if each.path.endswith(suffix)]


PATIENT = replace(POLICY, tracker=replace(POLICY.tracker, start_patience_s=20))


@pytest.mark.parametrize(
    ("endlist", "earlier_s"), [(True, 0), pytest.param(False, 30, marks=pytest.mark.faults)]
)
async def test_nothing_of_the_stream_before_at_a_static_address_is_archived_under_the_new_one(
    installation: Installation, film: Path, endlist: bool, earlier_s: float
) -> None:
    """Stopped and started again at once, or left without an end half a minute before."""
    past = partial(shifted, by_s=-earlier_s)
    async with (
        live(film, duration_s=10, endlist=endlist, clock=past) as former,
        live(film) as stream,
        StaticAddress(former) as address,
        bench_for(installation, address) as bench,
    ):
        former.go_live()
        await former.ended.wait()
        await bench.handle(bench.intake.on_stream_online, begun(address.url))
        replica = bench.replica("a", policy=PATIENT)
        async with asyncio.timeout(20):
            while len(address.asked("stream.m3u8")) < 2:
                await turn(replica)
        assert [] == address.asked(".ts")
        address.stream = stream
        stream.go_live()
        await bench.until_ended(replica)
        await assert_whole(bench, stream)


def shifted(*, by_s: float) -> datetime:
    return utc_now() + timedelta(seconds=by_s)


def begun(url: str) -> StreamOnline:
    event = online(url)
    return event.model_copy(
        update={"source": event.source.model_copy(update={"began_at": event.occurred_at})}
    )


IMPATIENT = replace(POLICY, tracker=replace(POLICY.tracker, start_patience_s=0.1))


async def test_a_stream_that_is_awaited_may_begin_late_and_under_another_owner(
    installation: Installation, film: Path
) -> None:
    async with live(film) as origin, bench_for(installation, origin) as bench:
        await bench.handle(bench.intake.on_stream_online, awaited(origin.url, for_s=60))
        first = bench.replica("a", lease_s=0.4, policy=IMPATIENT)
        second = bench.replica("b", lease_s=0.4, policy=IMPATIENT)
        for replica in (first, second):
            before = len(origin.requests)
            async with asyncio.timeout(20):
                while len(origin.requests) < before + 2:
                    await turn(replica)
            if replica is first:
                await kill(first)
        origin.go_live()
        await bench.until_ended(second)
        await assert_whole(bench, origin)


async def test_a_stream_that_does_not_come_is_awaited_until_its_moment_and_no_longer(
    installation: Installation, film: Path
) -> None:
    async with live(film) as origin, bench_for(installation, origin) as bench:
        event = awaited(origin.url, for_s=2)
        await bench.handle(bench.intake.on_stream_online, event)
        await bench.until_ended(bench.replica("a", policy=IMPATIENT))
        (ended,) = await bench.events(StreamEnded)
        assert event.source.awaited_until is not None
        assert EndCause.SOURCE_UNREACHABLE == ended.cause
        assert event.source.awaited_until <= ended.occurred_at


def awaited(url: str, *, for_s: float) -> StreamOnline:
    event = online(url)
    until = event.occurred_at + timedelta(seconds=for_s)
    return event.model_copy(update={"source": event.source.model_copy(update={"awaited_until": until})})


async def test_a_killed_owner_is_replaced_without_loss_or_double(
    installation: Installation, film: Path
) -> None:
    async with live(film) as origin, bench_for(installation, origin) as bench:
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        origin.go_live()
        first, second = bench.replica("a", lease_s=0.4), bench.replica("b", lease_s=0.4)
        await bench.until(first, "SELECT count(*) > 7 FROM ingest.segments", True)
        await kill(first)
        await bench.until_ended(second)
        await assert_whole(bench, origin)


async def test_a_stopped_owner_gives_its_leases_back_at_once(installation: Installation, film: Path) -> None:
    async with live(film) as origin, bench_for(installation, origin) as bench:
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        origin.go_live()
        first, second = bench.replica("a", lease_s=60), bench.replica("b", lease_s=60)
        await bench.until(first, "SELECT count(*) > 5 FROM ingest.segments", True)
        await first.stop()
        assert await bench.value("SELECT owner IS NULL FROM ingest.leases")
        await bench.until_ended(second)
        await assert_whole(bench, origin)


async def test_a_stale_owner_writes_nothing(installation: Installation, film: Path) -> None:
    async with live(film) as origin, bench_for(installation, origin) as bench:
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        leases, journal = PostgresLeases(bench.database), PostgresJournal(bench.database, bench.outbox)
        old, new = [await claimed(leases, owner) for owner in "ab"]
        opened = await journal.open(old)
        assert opened is not None
        with pytest.raises(LeaseLost):
            await journal.commit(old, [Entry(progress=opened.progress)])
        assert [(None,)] == await bench.rows("SELECT progress FROM ingest.followed")
        await journal.commit(new, [Entry(progress=opened.progress)])
        assert () == await leases.renew(Replica(owner="a", lease_s=6, capacities=CAPACITIES))


async def claimed(leases: PostgresLeases, owner: str) -> Lease:
    """The lease of the one stream, for a replica that is not heard of afterwards."""
    await leases.renew(Replica(owner=owner, lease_s=0, capacities=CAPACITIES))
    (taken,) = await leases.claim(owner, lane=Lane.LIVE, limit=1, patience_s=0, from_dead=True)
    return taken.lease


async def test_while_the_database_is_away_fetching_goes_on_and_nothing_is_lost(
    installation: Installation, film: Path
) -> None:
    async with live(film) as origin, bench_for(installation, origin) as bench:
        bench.journal = PausedJournal(PostgresJournal(bench.database, bench.outbox))
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        origin.go_live()
        replica = bench.replica("a")
        await bench.until(replica, "SELECT count(*) > 3 FROM ingest.segments", True)
        bench.journal.is_away = True
        await asyncio.wait_for(origin.ended.wait(), 20)
        committed = await bench.value("SELECT count(*) FROM ingest.segments")
        assert committed < len(origin.window.segments) - 5
        bench.journal.is_away = False
        await bench.until_ended(replica)
        await assert_whole(bench, origin)


@dataclass
class PausedJournal:
    inner: PostgresJournal
    is_away: bool = False

    async def open(self, lease: Lease) -> Any:
        return await self.inner.open(lease)

    async def commit(self, lease: Lease, entries: Any) -> None:
        if self.is_away:
            raise DatabaseUnavailable("away")
        await self.inner.commit(lease, entries)


async def test_a_segment_that_is_never_there_becomes_a_gap(installation: Installation, film: Path) -> None:
    async with live(film) as origin, bench_for(installation, origin) as bench:
        origin.faults[r"000010\.ts"] = lambda _: web.Response(status=404)
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        origin.go_live()
        await bench.until_ended(bench.replica("a"))
        (gap,) = await bench.events(SegmentMissed)
        assert (10, 10, "not_found") == (gap.from_sequence, gap.to_sequence, gap.cause)
        assert (20_000_000, 22_000_000) == (gap.from_us, gap.to_us)
        (ended,) = await bench.events(StreamEnded)
        assert ((0,), 58_000_000, 60_000_000) == (
            ended.gap_indexes,
            ended.media_duration_us,
            ended.offered_us,
        )
        assert all(
            not (event.start_us < gap.to_us and event.end_us > gap.from_us)
            for event in await bench.events(SegmentReady)
        )


async def test_an_offline_that_comes_first_still_ends_the_stream(
    installation: Installation, film: Path
) -> None:
    async with live(film, endlist=False, duration_s=10) as origin, bench_for(installation, origin) as bench:
        await bench.handle(bench.intake.on_stream_offline, about(StreamOffline, reason="stopped"))
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        origin.go_live()
        await bench.until_ended(bench.replica("a"))
        (ended,) = await bench.events(StreamEnded)
        assert (EndCause.STOPPED, True) == (ended.cause, ended.segments > 0)


async def test_a_closed_stream_is_dropped_and_publishes_nothing_more(
    installation: Installation, film: Path
) -> None:
    async with live(film) as origin, bench_for(installation, origin) as bench:
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        origin.go_live()
        replica = bench.replica("a", lease_s=0.3)
        await bench.until(replica, "SELECT count(*) > 3 FROM ingest.segments", True)
        await bench.handle(bench.intake.on_stream_closed, about(StreamClosed, cause="stopped"))
        before = await bench.value("SELECT count(*) FROM ingest.segments")
        async with asyncio.timeout(5):
            while replica.stream_ids:
                await turn(replica)
        assert before == await bench.value("SELECT count(*) FROM ingest.segments")
        assert ("closed", []) == (
            await bench.value("SELECT state FROM ingest.followed"),
            await bench.events(StreamEnded),
        )


async def test_a_recording_is_fetched_no_further_than_some_windows_ahead(
    installation: Installation, film: Path
) -> None:
    async with live(film, initial_segments=30) as origin, bench_for(installation, origin) as bench:
        policy = FollowerPolicy(tracker=POLICY.tracker, windows_ahead=1)
        await bench.handle(bench.intake.on_stream_online, online(origin.url, lane=Lane.VOD))
        origin.go_live()
        replica = bench.replica("a", policy=policy)
        await bench.until(replica, "SELECT count(*) FROM ingest.windows", 1)
        for _ in range(5):
            await turn(replica)
        assert 1 == await bench.value("SELECT count(*) FROM ingest.windows")
        assert await bench.value("SELECT count(*) FROM ingest.segments") < 15
        for index in range(4):
            await bench.handle(bench.intake.on_segment_analyzed, analysed(index))
        replica._renew_at_s = 0
        await bench.until_ended(replica)
        await assert_whole(bench, origin)


def analysed(index: int) -> SegmentAnalyzed:
    fields = {"window_id": "w", "run": 0, "profile_key": "p", "start_us": 0, "end_us": 1, "provider": "x"}
    return about(SegmentAnalyzed, index=index, verdict=Verdict.ANALYSED, lane=Lane.VOD, **fields)  # type: ignore[no-any-return]


async def test_a_new_run_begins_anew(installation: Installation, film: Path) -> None:
    async with live(film, duration_s=10) as origin, bench_for(installation, origin) as bench:
        origin.go_live()
        replica = bench.replica("a")
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        await bench.until_ended(replica)
        await bench.handle(bench.intake.on_stream_online, online(origin.url, run=1))
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        await bench.until_ended(replica)
        expected = [(0, 5), (1, 5)]
        assert expected == await bench.rows(
            "SELECT run, count(*) FROM ingest.segments GROUP BY run ORDER BY run"
        )


async def test_that_a_former_run_completed_does_not_end_the_one_that_follows(
    installation: Installation,
) -> None:
    async with bench_for(installation) as bench:
        await bench.handle(bench.intake.on_stream_online, online("https://example.com/live.m3u8", run=1))
        await bench.handle(bench.intake.on_stream_closed, about(StreamClosed, cause="completed"))
        assert [(1,)] == await bench.rows("SELECT run FROM ingest.leases")
        await bench.handle(bench.intake.on_stream_closed, about(StreamClosed, cause="watchdog"))
        assert [] == await bench.rows("SELECT run FROM ingest.leases")


async def test_tenants_see_only_their_own_streams(installation: Installation, film: Path) -> None:
    async with bench_for(installation) as bench:
        await bench.handle(bench.intake.on_stream_online, online("https://example.com/live.m3u8"))
        connection = await asyncpg.connect(installation.database_url("ingest"))
        await connection.execute("SELECT set_config('app.organization_id', 'org_other', false)")
        assert [] == await connection.fetch("SELECT * FROM ingest.followed")
        await connection.close()
