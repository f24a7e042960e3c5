"""The lease table on a real PostgreSQL: order, even shares, takeover, rest, and who was asked to leave."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.adapters.journal import PostgresJournal
from ingest.adapters.leases import PostgresLeases
from ingest.domain.recorder import Entry, Progress
from ingest.domain.sharing import Census
from ingest.loops import ClaimPolicy, Followers
from ingest.workflow.intake import Wake
from ingest.workflow.ports import Claimed, Lease, LeaseLost, Replica, Rest
from shared.database import Database, DatabaseUnavailable
from shared.events import Lane
from shared.outbox import Outbox, OutboxRow
from tests.conftest import Installation

CAPACITIES = {Lane.LIVE: 50, Lane.VOD: 50}


@dataclass
class Table:
    """The table, and what replicas do with it. Streams are named by the order in which they were offered."""

    leases: PostgresLeases
    admin: "asyncpg.Connection[Any]"

    async def offer(self, *names: str, organization: str = "org_a", lane: Lane = Lane.LIVE) -> None:
        """Each has waited one second less than the one before; none longer than anybody has patience."""
        known: int = await self.admin.fetchval("SELECT count(*) FROM ingest.leases")
        rows = [(name, organization, lane.value, 100.0 - known - n) for n, name in enumerate(names)]
        await self.admin.executemany(
            "INSERT INTO ingest.leases (stream_id, organization_id, run, lane, lease_until) "
            "VALUES ($1, $2, 0, $3, now() - make_interval(secs => $4))",
            rows,
        )

    async def alive(self, *owners: str, lease_s: float = 60) -> None:
        for owner in owners:
            await self.leases.renew(Replica(owner=owner, lease_s=lease_s, capacities=CAPACITIES))

    async def claimed(self, owner: str, *, limit: int = 50, **changes: Any) -> tuple[Claimed, ...]:
        fields: dict[str, Any] = {"lane": Lane.LIVE, "patience_s": 1000.0, "from_dead": True} | changes
        return await self.leases.claim(owner, limit=limit, **fields)

    async def names(self, owner: str, *, limit: int = 50, **changes: Any) -> list[str]:
        claimed = await self.claimed(owner, limit=limit, **changes)
        return [str(each.lease.stream_id) for each in sorted(claimed, key=lambda each: each.lease.fence)]

    async def held(self, owner: str) -> tuple[Lease, ...]:
        return await self.leases.renew(Replica(owner=owner, lease_s=60, capacities=CAPACITIES))

    async def set(self, changes: str) -> None:
        await self.admin.execute(f"UPDATE ingest.leases SET {changes}")


@pytest.fixture
async def table(installation: Installation) -> AsyncIterator[Table]:
    database = Database(installation.database_url("ingest"), schema="ingest")
    admin = await asyncpg.connect(installation.admin_url)
    yield Table(PostgresLeases(database), admin)
    await admin.close()
    await database.close()


async def test_streams_are_taken_by_turns_of_organizations_and_the_oldest_first(table: Table) -> None:
    await table.offer("a0", "a1", "a2", "a3")
    await table.offer("b0", "b1", organization="org_b")
    await table.alive("r1")
    assert {"a0", "b0", "a1"} == set(await table.names("r1", limit=3))
    assert {"b1"} == set(await table.names("r1", limit=1))


async def test_who_is_served_already_comes_after_who_is_not(table: Table) -> None:
    await table.offer("a0", "a1", "a2")
    await table.alive("r1")
    await table.names("r1", limit=2)
    await table.offer("b0", organization="org_b")
    assert ["b0"] == await table.names("r1", limit=1)


async def test_a_lane_is_claimed_by_itself(table: Table) -> None:
    await table.offer("v0", "v1", lane=Lane.VOD)
    await table.offer("l0")
    await table.alive("r1")
    assert ["l0"] == await table.names("r1")
    assert {"v0", "v1"} == set(await table.names("r1", lane=Lane.VOD))


async def test_replicas_take_no_more_than_an_even_share(table: Table) -> None:
    await table.offer(*(f"s{n}" for n in range(21)))
    await table.alive("r1", "r2")
    assert (11, 10) == (len(await table.claimed("r1")), len(await table.claimed("r2")))
    assert () == await table.claimed("r1")


async def test_what_nobody_wants_is_taken_beyond_the_share(table: Table) -> None:
    await table.offer(*(f"s{n}" for n in range(10)))
    await table.alive("r1", "r2")
    await table.claimed("r1")
    assert 5 == len(await table.claimed("r1", patience_s=1.0))


async def test_the_streams_of_a_silent_replica_are_taken_over_and_only_those(table: Table) -> None:
    await table.offer(*(f"s{n}" for n in range(6)))
    await table.alive("r1", "r2", "r3")
    for owner in ("r1", "r2"):
        await table.claimed(owner, limit=2)
    lost = {lease.stream_id for lease in await table.held("r1")}
    await table.alive("r1", lease_s=0)
    assert 2 == len(await table.claimed("r3", from_dead=False))
    taken = await table.claimed("r3", patience_s=0)
    assert (lost, {True}) == ({each.lease.stream_id for each in taken}, {each.is_takeover for each in taken})
    assert ((), 2) == (await table.held("r1"), len(await table.held("r2")))


async def test_a_silent_replica_that_nobody_replaced_goes_on_with_what_it_has(table: Table) -> None:
    await table.offer("s0")
    await table.alive("r1", lease_s=0)
    (first,) = await table.claimed("r1")
    assert () == await table.claimed("r1", patience_s=0)
    assert (first.lease,) == await table.held("r1")


async def test_leases_of_a_replica_of_an_older_version_last_until_their_date(table: Table) -> None:
    await table.offer("s0", "s1")
    await table.alive("r1")
    await table.set("owner = 'old', lease_until = now() + interval '1 hour'")
    assert () == await table.claimed("r1", patience_s=0)
    await table.set("lease_until = now() - interval '1 s'")
    assert 2 == len(await table.claimed("r1", patience_s=0))


async def test_a_lease_that_is_given_back_rests_as_long_as_it_should(table: Table) -> None:
    await table.offer("s0", "s1", "s2")
    await table.alive("r1")
    fences = {str(each.lease.stream_id): each.lease.fence for each in await table.claimed("r1")}
    rests: dict[str, dict[str, Any]] = {"s0": {}, "s1": {"pause_s": 60.0}, "s2": {"awaited_windows": 4}}
    await table.leases.release("r1", rests=[Rest(fence=fences[name], **rest) for name, rest in rests.items()])
    assert ["s0"] == await table.names("r1", patience_s=0)
    await table.set("analysed_windows = 4")
    assert ["s2"] == await table.names("r1", patience_s=0)


async def test_an_offline_ends_the_wait_for_an_analysis(table: Table) -> None:
    await table.offer("s0")
    await table.alive("r1")
    (taken,) = await table.claimed("r1")
    await table.leases.release("r1", rests=[Rest(fence=taken.lease.fence, awaited_windows=4)])
    await table.set("is_offline = true")
    assert ["s0"] == await table.names("r1")


async def test_a_lease_that_another_replica_holds_by_now_is_not_given_back(table: Table) -> None:
    await table.offer("s0")
    await table.alive("r1", lease_s=0)
    (old,) = await table.claimed("r1")
    await table.alive("r2")
    (new,) = await table.claimed("r2")
    await table.leases.release("r1", rests=[Rest(fence=old.lease.fence)])
    await table.leases.go("r1")
    assert (new.lease,) == await table.held("r2")


async def test_the_share_of_a_replica_that_leaves_falls_to_the_others_and_its_streams_stay_its_own(
    table: Table,
) -> None:
    await table.offer(*(f"s{n}" for n in range(4)))
    await table.alive("r1", "r2")
    await table.claimed("r1")
    await table.leases.leave("r1")
    assert 2 == len(await table.claimed("r2"))
    assert 0 == (await table.leases.census()).capacity(Lane.LIVE) - CAPACITIES[Lane.LIVE]
    await table.leases.go("r1")
    assert 2 == len(await table.claimed("r2"))


async def test_the_census_tells_who_holds_what_and_what_is_free(table: Table) -> None:
    await table.offer("a0", "a1", "a2", "a3", lane=Lane.VOD)
    await table.offer("b0", organization="org_b", lane=Lane.VOD)
    await table.alive("r1")
    first, *_ = await table.claimed("r1", limit=2, lane=Lane.VOD)
    await table.leases.release("r1", rests=[Rest(fence=first.lease.fence, awaited_windows=2)])
    census = await table.leases.census()
    held, free = census.held(Lane.VOD), census.free_by_organization(Lane.VOD)
    assert (Counter(r1=1), 3, 1) == (held, free.total(), census.resting(Lane.VOD))
    assert {"r1": CAPACITIES} == census.capacities


async def test_live_streams_and_every_organization_get_their_turn_among_ten_thousand_recordings(
    table: Table,
) -> None:
    await table.offer("l0")
    await table.admin.execute(
        "INSERT INTO ingest.leases (stream_id, organization_id, run, lane, lease_until) "
        "SELECT 'v' || n, 'org_' || n % 7, 0, 'vod', now() FROM generate_series(1, 10000) AS n"
    )
    await table.admin.execute("ANALYZE ingest.leases")
    await table.alive("r1")
    assert ["l0"] == await table.names("r1")
    taken = await table.claimed("r1", lane=Lane.VOD, limit=14)
    assert {2} == set(Counter(each.lease.organization_id for each in taken).values())


class FrozenOutbox(Outbox):
    """Stands still in the middle of a commit until it is thawed."""

    def __init__(self) -> None:
        super().__init__("ingest")
        self.is_reached, self.is_thawed = asyncio.Event(), asyncio.Event()

    async def insert(self, connection: AsyncConnection, rows: Sequence[OutboxRow]) -> None:
        self.is_reached.set()
        await self.is_thawed.wait()
        await super().insert(connection, rows)


async def test_a_replica_that_freezes_in_mid_commit_loses_its_stream_and_writes_nothing(
    installation: Installation, table: Table
) -> None:
    await table.offer("s0")
    await table.admin.execute(
        "INSERT INTO ingest.followed (stream_id, organization_id, run, lane, profile_key, source, state) "
        "VALUES ('s0', 'org_a', 0, 'live', 'p', '{}', 'following')"
    )
    await table.alive("r1", "r2", lease_s=1)
    (old,) = await table.claimed("r1")
    outbox = FrozenOutbox()
    database = Database(installation.database_url("ingest"), schema="ingest")
    journal = PostgresJournal(database, outbox)
    committing = asyncio.create_task(journal.commit(old.lease, [Entry(progress=Progress())]))
    async with asyncio.timeout(5):
        await outbox.is_reached.wait()
    async with asyncio.timeout(6):
        while not (taken := await table.claimed("r2", patience_s=0)):
            await asyncio.sleep(0.05)
    outbox.is_thawed.set()
    with pytest.raises(DatabaseUnavailable):
        await committing
    with pytest.raises(LeaseLost):
        await journal.commit(old.lease, [Entry(progress=Progress())])
    assert None is await table.admin.fetchval("SELECT progress FROM ingest.followed")
    await PostgresJournal(database, Outbox("ingest")).commit(taken[0].lease, [Entry(progress=Progress())])
    await database.close()


class Idle:
    """Follows nothing, until it is stopped."""

    pending_count = 0
    awaited_windows = 0

    def __init__(self) -> None:
        self._is_stopped = asyncio.Event()

    async def run(self) -> None:
        await self._is_stopped.wait()

    def learn(self, lease: Lease) -> None: ...

    def stop(self) -> None:
        self._is_stopped.set()


class CountedLeases(PostgresLeases):
    """Knows how often somebody looked at how the streams are shared."""

    censuses = 0

    async def census(self) -> Census:
        self.censuses += 1
        return await super().census()


class Members:
    """Replicas whose loops run; `opened` counts how often a stream came into anybody's hands."""

    def __init__(self, database: Database) -> None:
        self.opened = 0
        self._leases = CountedLeases(database)
        self._running: dict[str, tuple[Followers, asyncio.Task[None]]] = {}

    def join(self, owner: str) -> None:
        followers = Followers(
            owner=owner, leases=self._leases, open_follower=self._open, wake=Wake(), policy=QUICK
        )
        self._running[owner] = followers, asyncio.create_task(self._run(followers))

    async def leave(self, owner: str) -> None:
        followers, task = self._running.pop(owner)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await followers.stop()

    @property
    def counts(self) -> list[int]:
        return sorted(len(followers.stream_ids) for followers, _ in self._running.values())

    async def until(self, expected: list[int]) -> None:
        async with asyncio.timeout(20):
            while self.counts != expected:
                await asyncio.sleep(0.02)

    async def until_counted(self, more: int) -> None:
        seen = self._leases.censuses
        async with asyncio.timeout(20):
            while self._leases.censuses < seen + more:
                await asyncio.sleep(0.02)

    async def end(self) -> None:
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self, lease: Lease) -> Any:
        self.opened += 1
        return Idle()

    async def _run(self, followers: Followers) -> None:
        while True:
            if not await followers.turn():
                await asyncio.sleep(0.02)


QUICK = ClaimPolicy(capacities=CAPACITIES, lease_s=5, renew_s=0.1, census_s=0.1)


@pytest.fixture
async def members(installation: Installation) -> AsyncIterator[Members]:
    database = Database(installation.database_url("ingest"), schema="ingest")
    made = Members(database)
    yield made
    await made.end()
    await database.close()


async def test_streams_stay_evenly_shared_as_replicas_come_and_go_and_move_no_more_than_that_takes(
    table: Table, members: Members
) -> None:
    await table.offer(*(f"s{n}" for n in range(24)))
    members.join("r1")
    await members.until([24])
    members.join("r2")
    await members.until([12, 12])
    members.join("r3")
    await members.until([8, 8, 8])
    assert 24 + 12 + 8 == members.opened
    await members.until_counted(30)
    assert (44, [8, 8, 8]) == (members.opened, members.counts)
    await members.leave("r1")
    await members.until([12, 12])
    await members.leave("r2")
    await members.leave("r3")
    assert [] == await table.admin.fetch("SELECT 1 FROM ingest.leases WHERE owner IS NOT NULL")
