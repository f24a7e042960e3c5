"""Repairs against a real PostgreSQL: which gaps, under which claim, how often, and what is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from ingest.adapters.register import PostgresRegister
from ingest.adapters.repair_cutter import FileCutter, RangedCutter
from ingest.adapters.repair_rows import RecordingRows, RepairRows
from ingest.adapters.spool import FolderSpool
from ingest.domain.repair import ONLY_ADS_THERE
from ingest.domain.ts import read_clock
from ingest.domain.windows import WindowPlan
from ingest.workflow.archive import Archive
from ingest.workflow.ports import LeaseLost
from ingest.workflow.repair import RecordingIntake, RepairPolicy, Repairs
from ingest.workflow.repair_ports import RecordingCutter, RecordingUnavailable, RecordingUnusable
from sandbox.film import make_film
from sandbox.origin import VodOrigin
from shared.addresses import parse_allowed
from shared.clock import utc_now
from shared.database import Database
from shared.events import Event, RecordingAvailable, SegmentReady, SegmentRepaired, Source
from shared.http_client import SafeHttpClient
from shared.ids import event_id
from shared.keyring import Keyring, generate_key
from shared.media_runner import MediaRunner, detect_sandbox
from shared.middleware import UnitOfWork
from shared.object_store import FolderObjectStore
from shared.outbox import Outbox
from shared.repairs import repair_index
from shared.scratch import scratch_folder
from tests.builders import ORGANIZATION, STREAM
from tests.conftest import Installation
from tests.fakes.ingest.cutter import FakeCutter

S = 1_000_000
BEGAN_AT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
KEYRING = Keyring([generate_key()])
ADDRESS = "https://recordings.example.com/rec.mp4?signature=x"


@dataclass
class Bench:
    """One database, and replicas of ingest that share it."""

    installation: Installation
    database: Database
    store: FolderObjectStore
    cutter: FakeCutter
    folder: Path

    def replica(self, owner: str = "one", *, cutter: RecordingCutter | None = None, **policy: Any) -> Repairs:
        outbox = Outbox("ingest")
        return Repairs(
            owner=owner,
            jobs=RepairRows(self.database, outbox),
            cutter=cutter or self.cutter,
            archive=Archive(
                self.store, FolderSpool(scratch_folder(str(self.folder / owner)), limit_bytes=10**9)
            ),
            keyring=KEYRING,
            clock=utc_now,
            policy=RepairPolicy(plan=WindowPlan(), **{"pause_s": 0.0} | policy),
            wake=asyncio.Event(),
        )

    async def offer(
        self, recording_id: str = "rec", *, begins_s: float = -5, duration_s: float = 3600
    ) -> None:
        """`begins_s` is the recording's begin in media time."""
        event = RecordingAvailable(
            event_id=event_id(STREAM, RecordingAvailable.name, recording_id),
            organization_id=ORGANIZATION,
            stream_id=STREAM,
            occurred_at=utc_now(),
            recording_id=recording_id,
            sealed_url=KEYRING.encrypt(ADDRESS, context=f"stream:{STREAM}"),
            started_at=BEGAN_AT + timedelta(seconds=begins_s),
            duration_us=round(duration_s * S),
        )
        intake = RecordingIntake(register=RecordingRows(), wake=asyncio.Event())
        async with self.database.transaction(ORGANIZATION) as session:
            await intake.on_recording_available(event, UnitOfWork(session, Outbox("ingest")))

    async def run_over(self, *gaps_s: tuple[float, float], state: str = "ended") -> None:
        """A run of ten minutes in segments of 10 s, with these holes."""
        source = Source(sealed_url="sealed", display_url="https://example.com/x").model_dump_json()
        await self.execute(
            "INSERT INTO ingest.followed (stream_id, organization_id, run, lane, profile_key, source, state) "
            "VALUES ($1, $2, 0, 'live', 'profiles/0.json', $3, $4)",
            STREAM,
            ORGANIZATION,
            source,
            state,
        )
        await self.execute(
            "INSERT INTO ingest.segments SELECT $1, 0, 0, n, $2, n, n * 10000000::bigint, 10000000, "
            "$3::timestamptz + make_interval(secs => n * 10), 'key', 1, 'sha', 'mpegts', NULL, false "
            "FROM generate_series(0, 59) AS n",
            STREAM,
            ORGANIZATION,
            BEGAN_AT,
        )
        for index, (first, last) in enumerate(gaps_s):
            await self.execute(
                "DELETE FROM ingest.segments WHERE start_us >= $1 AND start_us < $2",
                round(first * S),
                round(last * S),
            )
            await self.execute(
                "INSERT INTO ingest.gaps VALUES ($1, 0, $3, $2, 0, $4, $4, $5, $6, 'not_found')",
                STREAM,
                ORGANIZATION,
                index,
                round(first / 10),
                round(first * S),
                round((last - first) * S),
            )

    async def execute(self, statement: str, *values: object) -> None:
        await self.rows(statement, *values)

    async def rows(self, query: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.installation.admin_url)
        try:
            return list(await connection.fetch(query, *values))
        finally:
            await connection.close()

    async def told(self, model: type[Event]) -> list[Any]:
        rows = await self.rows(
            "SELECT body FROM ingest.outbox WHERE event_name = $1 ORDER BY seq", model.name
        )
        return [model.model_validate_json(row["body"]) for row in rows]

    async def outcomes(self) -> list[tuple[int, int, str]]:
        told = await self.told(SegmentRepaired)
        return [(each.gap_index, each.revision, each.outcome) for each in told]

    async def jobs(self) -> int:
        return len(await self.rows("SELECT 1 FROM ingest.repair_jobs"))


@pytest.fixture
async def bench(installation: Installation, tmp_path: Path) -> AsyncIterator[Bench]:
    database = Database(installation.database_url("ingest"), schema="ingest", pool_size=4)
    store = FolderObjectStore(
        tmp_path / "objects", public_base_url="http://test", signing_secret="s" * 32, clock=utc_now
    )
    yield Bench(installation, database, store, FakeCutter(tmp_path), tmp_path)
    await database.close()


async def work(replica: Repairs) -> None:
    """One turn and what it began."""
    await replica.turn()
    doing = replica._doing
    if doing is not None:
        await doing


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_a_gap_is_filled_with_windows_that_lie_in_the_archive(bench: Bench) -> None:
    await bench.run_over((100, 120))
    await bench.offer()

    await work(bench.replica())

    [repaired] = await bench.told(SegmentRepaired)
    ready = await bench.told(SegmentReady)
    assert ("repaired", 100 * S, 120 * S) == (repaired.outcome, repaired.from_us, repaired.to_us)
    assert [repair_index(0, n) for n in range(len(ready))] == [each.index for each in ready]
    assert len(repaired.windows) == len(ready) > 1
    assert ready[0].start_us <= 90 * S and ready[-1].end_us >= 130 * S
    for segment in ready[0].segments:
        body = await bench.store.get(segment.key)
        clock = read_clock(body)
        assert clock is not None
        assert segment.start_us == clock.pts_us - 5 * S
    assert [(105 * S - 12 * S, 125 * S + 12 * S)] == bench.cutter.cuts
    assert ([ADDRESS], 0) == (bench.cutter.opened, await bench.jobs())


async def test_media_of_a_break_for_advertising_is_judged_in_no_repair(bench: Bench) -> None:
    await bench.run_over((100, 120), (300, 320))
    for index, (first, last) in enumerate(((90, 100), (280, 340))):
        await bench.execute(
            "INSERT INTO ingest.annotations VALUES ($1, 0, $2, $3, 'ad', $4, $5, 'cue-out')",
            STREAM,
            index,
            ORGANIZATION,
            first * S,
            last * S,
        )
    await bench.offer()

    await work(bench.replica())

    ready = await bench.told(SegmentReady)
    assert [(0, 1, "repaired"), (1, 1, "failed")] == await bench.outcomes()
    assert all(each.start_us >= 100 * S or each.end_us <= 90 * S for each in ready)
    assert {ref.key for each in ready for ref in each.segments if ref.start_us >= 100 * S}
    assert ONLY_ADS_THERE == (await bench.told(SegmentRepaired))[1].reason


async def test_a_recording_waits_for_the_end_of_its_run(bench: Bench) -> None:
    await bench.run_over((100, 120), state="following")
    await bench.offer()
    replica = bench.replica()

    await work(replica)
    assert ([], 1) == (bench.cutter.opened, await bench.jobs())
    await bench.execute("UPDATE ingest.followed SET state = 'ended'")
    await work(replica)

    assert [(0, 1, "repaired")] == await bench.outcomes()


@pytest.mark.parametrize("state", ["ended", "closed"])
async def test_where_there_is_nothing_to_repair_the_recording_is_not_fetched(
    bench: Bench, state: str
) -> None:
    await bench.run_over(*(() if state == "ended" else ((100, 120),)), state=state)
    await bench.offer()

    await work(bench.replica())

    assert ([], 0, []) == (bench.cutter.opened, await bench.jobs(), await bench.outcomes())


async def test_a_recording_that_does_not_cover_the_gap_is_told_and_not_fetched(bench: Bench) -> None:
    await bench.run_over((100, 120))
    await bench.offer(duration_s=50)

    await work(bench.replica())

    [repaired] = await bench.told(SegmentRepaired)
    assert ("failed", ()) == (repaired.outcome, repaired.windows)
    assert "does not cover" in repaired.reason
    assert [] == bench.cutter.opened


async def test_a_second_recording_fills_what_the_first_did_not(bench: Bench) -> None:
    await bench.run_over((100, 120), (400, 420))
    await bench.offer("first", duration_s=200)
    await work(bench.replica())
    await bench.offer("second", begins_s=300)

    await work(bench.replica())

    assert [(1, 1, "failed"), (0, 1, "repaired"), (1, 2, "repaired")] == await bench.outcomes()


async def test_what_failed_is_not_repeated_unless_it_is_offered_again(bench: Bench) -> None:
    await bench.run_over((100, 120))
    bench.cutter.failures = [RecordingUnusable("It has no picture.")]
    await bench.offer()
    replica = bench.replica()
    await work(replica)
    await work(replica)
    assert [(0, 1, "failed")] == await bench.outcomes()

    await bench.offer()
    await work(replica)

    assert [(0, 1, "failed"), (0, 2, "repaired")] == await bench.outcomes()


async def test_a_recording_that_is_away_is_tried_again_and_given_up_in_the_end(bench: Bench) -> None:
    await bench.run_over((100, 120))
    bench.cutter.failures = [RecordingUnavailable("away") for _ in range(3)]
    await bench.offer()
    replica = bench.replica(attempts=3)

    for _ in range(4):
        await work(replica)

    assert [(0, 1, "failed")] == await bench.outcomes()
    assert (3, 0) == (len(bench.cutter.opened), await bench.jobs())


async def test_two_replicas_never_work_on_the_same_recording(bench: Bench) -> None:
    await bench.run_over((100, 120))
    bench.cutter.gate.clear()
    await bench.offer()
    one, other = bench.replica("one"), bench.replica("other")

    await one.turn()
    await until(lambda: _true(bench.cutter.cuts))
    await other.turn()

    assert other._doing is None
    bench.cutter.gate.set()
    assert one._doing is not None
    await one._doing
    assert [(0, 1, "repaired")] == await bench.outcomes()


async def test_a_replica_that_stops_hands_over_at_once(bench: Bench) -> None:
    await bench.run_over((100, 120))
    bench.cutter.gate.clear()
    await bench.offer()
    one = bench.replica("one")
    await one.turn()
    await until(lambda: _true(bench.cutter.cuts))

    await one.stop()
    [job] = await bench.rows("SELECT attempts FROM ingest.repair_jobs")
    bench.cutter.gate.set()
    await work(bench.replica("other"))

    assert (0, [(0, 1, "repaired")]) == (job["attempts"], await bench.outcomes())


async def test_a_replica_that_lost_its_claim_writes_nothing(bench: Bench) -> None:
    await bench.run_over((100, 120))
    bench.cutter.gate.clear()
    await bench.offer()
    frozen = bench.replica("frozen", lease_s=0.05)
    await frozen.turn()
    await until(lambda: _true(bench.cutter.cuts))
    await bench.execute("UPDATE ingest.repair_jobs SET fence = fence + 1000, owner = 'other'")

    bench.cutter.gate.set()
    assert frozen._doing is not None
    await frozen._doing

    assert ([], 1) == (await bench.outcomes(), await bench.jobs())


async def test_a_stream_that_is_closed_for_good_meanwhile_gets_nothing_more(bench: Bench) -> None:
    await bench.run_over((100, 120))
    bench.cutter.gate.clear()
    await bench.offer()
    replica = bench.replica()
    await replica.turn()
    await until(lambda: _true(bench.cutter.cuts))
    async with bench.database.transaction(ORGANIZATION) as session:
        await PostgresRegister().close(session, STREAM)

    bench.cutter.gate.set()
    assert replica._doing is not None
    await replica._doing
    await bench.execute("UPDATE ingest.repair_jobs SET lease_until = now() - interval '1 second'")
    await work(bench.replica("other"))

    assert ([], 0) == (await bench.outcomes(), await bench.jobs())


async def test_a_recording_that_breaks_every_attempt_is_given_up(bench: Bench) -> None:
    await bench.run_over((100, 120))
    await bench.offer()
    await bench.execute("UPDATE ingest.repair_jobs SET attempts = 4")  # none of which told an outcome

    await work(bench.replica(attempts=4))

    [repaired] = await bench.told(SegmentRepaired)
    assert ("failed", 0, []) == (repaired.outcome, await bench.jobs(), bench.cutter.opened)
    assert repaired.reason.startswith("repair_broken")


async def test_who_takes_over_goes_on_behind_the_groups_that_stand(bench: Bench) -> None:
    await bench.run_over((100, 120), (400, 420))
    await bench.offer()
    rows = RepairRows(bench.database, Outbox("ingest"))
    [job] = await rows.claim("one", limit=1, lease_s=30)
    task = await rows.open(job)
    assert task is not None
    await bench.replica("one")._fill_all(job, replace(task, gaps=task.gaps[:1]))
    await rows.postpone(job, pause_s=0)

    await work(bench.replica("other"))

    assert [(0, 1, "repaired"), (1, 1, "repaired")] == await bench.outcomes()
    assert 2 == len(bench.cutter.cuts)


async def test_a_commit_under_an_old_fence_is_refused(bench: Bench) -> None:
    await bench.run_over((100, 120))
    await bench.offer()
    rows = RepairRows(bench.database, Outbox("ingest"))
    [old] = await rows.claim("old", limit=1, lease_s=0.0)
    await until(lambda: rows.claim("new", limit=1, lease_s=30))

    with pytest.raises(LeaseLost):
        await rows.commit(old, ())


@pytest.mark.needs_ffmpeg
@pytest.mark.parametrize("by_ranges", [False, True])
async def test_a_real_recording_is_cut_at_its_key_frames_on_its_own_clock(
    bench: Bench, *, by_ranges: bool
) -> None:
    served = bench.folder / "served"
    served.mkdir()
    make_film(served / "rec.mp4", duration_s=20)
    runner = MediaRunner(sandbox=await detect_sandbox())
    async with VodOrigin(served, playlist="rec.mp4") as origin:
        allowed = parse_allowed(urlsplit(origin.url).netloc)
        async with SafeHttpClient(allowed=allowed, user_agent="test") as http:
            whole = FileCutter(http, runner, work_root=bench.folder, max_bytes=10**8)
            ranged = RangedCutter(http, runner, work_root=bench.folder, max_bytes=10**8, whole=whole)
            cutter = ranged if by_ranges else whole
            async with cutter.open(origin.url) as recording:
                clocks = [
                    read_clock(piece.path.read_bytes())
                    async for piece in recording.cut(from_us=7 * S, to_us=13 * S)
                ]
            with pytest.raises(RecordingUnusable, match="404"):
                async with cutter.open(f"{origin.base_url}/other.mp4"):
                    pass

    starts = [clock.pts_us for clock in clocks if clock is not None]
    assert 6 * S == starts[0]
    assert all(start % (2 * S) == 0 for start in starts)
    assert 12 * S <= starts[-1] + 2 * S


async def _true(value: object) -> bool:
    return bool(value)
