"""The loop over the leases: capacity, renewal, loss, stop, and sources that cannot be opened."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ingest.adapters.spool import FolderSpool
from ingest.domain.recorder import Followed
from ingest.domain.sharing import Census, Group
from ingest.loops import UNREADABLE, ClaimPolicy, FollowerFactory, Followers
from ingest.workflow.archive import Archive
from ingest.workflow.follower import FollowerPolicy
from ingest.workflow.intake import Wake
from ingest.workflow.ports import Lease, Rest
from shared.clock import utc_now
from shared.database import DatabaseUnavailable
from shared.events import Lane, Source, StreamEnded
from shared.ids import OrganizationId, StreamId
from shared.keyring import Keyring, generate_key
from shared.object_store import FolderObjectStore
from tests.builders import ORGANIZATION, STREAM
from tests.fakes.ingest.http import FakeHttp
from tests.fakes.ingest.journal import FakeJournal
from tests.fakes.ingest.leases import FakeLeases
from tests.fakes.ingest.openers import hls_openers


@dataclass
class StubFollower:
    """Runs until it is stopped or told to break."""

    lease: Lease
    learned: list[Lease] = field(default_factory=list)
    pending_count: int = 0
    awaited_windows: int = 0
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    async def run(self) -> None:
        await self.ending.wait()
        if self.error is not None:
            raise self.error

    def learn(self, lease: Lease) -> None:
        self.learned.append(lease)

    def stop(self) -> None:
        self.ending.set()


class Replica:
    def __init__(self, *, capacity: int = 10, streams: int = 3, lane: Lane = Lane.LIVE) -> None:
        self.leases = FakeLeases([lease(n, lane=lane) for n in range(streams)])
        self.opened: list[StubFollower] = []
        self.now_s = 0.0
        self.wake = Wake()
        self.streams = streams
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.followers = Followers(
            owner="a",
            leases=self.leases,
            open_follower=self._open,
            wake=self.wake,
            policy=ClaimPolicy(capacities={Lane.LIVE: capacity, Lane.VOD: 3}, batch=2),
            now_s=lambda: self.now_s,
        )

    async def _open(self, given: Lease) -> Any:
        await self.may_open.wait()
        self.opened.append(StubFollower(given))
        return self.opened[-1]

    async def turn_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await self.followers.turn()
                await asyncio.sleep(0)

    async def all_open(self) -> None:
        await self.turn_until(lambda: len(self.opened) == self.streams)

    async def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        await self.followers.turn()
        await asyncio.sleep(0)


def lease(n: int, *, lane: Lane = Lane.LIVE) -> Lease:
    return Lease(stream_id=StreamId(f"str_{n:012x}"), organization_id=ORGANIZATION, run=0, fence=0, lane=lane)


def census(*groups: tuple[Lane, str, str | None, int]) -> Census:
    """Groups are lane, organization, owner (None: free) and count; replicas a and b follow ten of each lane."""
    capacities = {owner: {Lane.LIVE: 10, Lane.VOD: 10} for owner in "ab"}
    made = [
        Group(
            lane=lane,
            organization_id=OrganizationId(organization),
            owner=owner,
            is_free=owner is None,
            count=count,
        )
        for lane, organization, owner, count in groups
    ]
    return Census(capacities=capacities, groups=tuple(made))


async def test_a_replica_takes_no_more_than_its_capacity() -> None:
    replica = Replica(capacity=3, streams=7)
    for _ in range(5):
        await replica.followers.turn()
    assert (3, 4) == (len(replica.followers.stream_ids), len(replica.leases.free))
    await replica.followers.stop()


async def test_recordings_leave_the_places_of_live_streams_alone() -> None:
    replica = Replica(capacity=2, streams=5, lane=Lane.VOD)
    replica.leases.free += [lease(n) for n in range(5, 9)]
    await replica.turn_until(lambda: len(replica.opened) == 5)
    lanes = [follower.lease.lane for follower in replica.opened]
    assert ([Lane.LIVE] * 2, 3) == (lanes[:2], lanes.count(Lane.VOD))
    await replica.followers.stop()


async def test_leases_are_renewed_in_time_and_not_at_every_turn() -> None:
    replica = Replica()
    await replica.all_open()
    before = replica.leases.renewals
    await replica.followers.turn()
    assert before == replica.leases.renewals
    replica.now_s = 1.0
    await replica.followers.turn()
    assert before + 1 == replica.leases.renewals
    await replica.followers.stop()


async def test_a_wake_brings_news_to_the_follower_that_they_concern_at_once() -> None:
    replica = Replica()
    await replica.all_open()
    fence = replica.opened[1].lease.fence
    replica.leases.held[fence] = replace(replica.leases.held[fence], is_offline=True)
    replica.now_s = 0.2
    replica.wake.event.set()
    await replica.followers.turn()
    assert [0, 1, 0] == [len(each.learned) for each in replica.opened]
    assert replica.opened[1].learned[0].is_offline
    await replica.followers.stop()


async def test_many_wakes_do_not_renew_more_often() -> None:
    replica = Replica()
    await replica.all_open()
    before = replica.leases.renewals
    for _ in range(10):
        replica.wake.event.set()
        await replica.followers.turn()
    assert before == replica.leases.renewals
    await replica.followers.stop()


async def test_news_that_come_while_a_stream_is_opened_reach_its_follower() -> None:
    replica = Replica(streams=1)
    replica.may_open.clear()
    await replica.pass_s(0)
    fence = next(iter(replica.leases.held))
    replica.leases.held[fence] = replace(replica.leases.held[fence], is_offline=True)
    await replica.pass_s(1.0)
    replica.may_open.set()
    await replica.turn_until(lambda: bool(replica.opened and replica.opened[0].learned))
    assert replica.opened[0].learned[-1].is_offline
    await replica.followers.stop()


async def test_only_the_follower_whose_lease_is_lost_is_stopped() -> None:
    replica = Replica()
    await replica.all_open()
    lost = replica.opened[0].lease
    del replica.leases.held[lost.fence]
    replica.now_s = 2.0
    await replica.turn_until(lambda: lost.stream_id not in replica.followers.stream_ids)
    assert 2 == len(replica.followers.stream_ids)
    await replica.followers.stop()


async def test_a_claim_whose_answer_was_lost_is_followed_after_all() -> None:
    replica = Replica(streams=0)
    await replica.followers.turn()
    replica.leases.held[7] = replace(lease(1), fence=7)
    replica.now_s = 1.0
    await replica.turn_until(lambda: len(replica.opened) == 1)
    assert 7 == replica.opened[0].lease.fence
    await replica.followers.stop()


async def test_followers_go_on_while_the_database_is_away() -> None:
    replica = Replica()
    await replica.all_open()
    replica.leases.is_away, replica.now_s = True, 60.0
    with pytest.raises(DatabaseUnavailable):
        await replica.followers.turn()
    assert 3 == len(replica.followers.stream_ids)
    replica.leases.is_away = False
    await replica.followers.stop()


async def test_after_an_outage_the_others_have_the_time_to_come_back() -> None:
    replica = Replica(streams=0)
    await replica.followers.turn()
    replica.leases.dead.append(lease(1))
    await replica.pass_s(60.0)
    assert [] == replica.opened
    for _ in range(5):
        await replica.pass_s(1.0)
    assert [1] == [int(str(each.lease.stream_id)[4:], 16) for each in replica.opened]
    await replica.followers.stop()


async def test_a_stop_gives_every_lease_back() -> None:
    replica = Replica()
    await replica.all_open()
    await replica.followers.stop()
    assert ([1, 2, 3], ()) == (replica.leases.released_fences, replica.followers.stream_ids)
    assert ["leave", "release", "go"] == replica.leases.calls[-3:]


async def test_a_slow_follower_does_not_keep_the_others_from_being_given_back() -> None:
    replica = Replica()
    await replica.all_open()
    slow = replica.opened[2]
    slow.stop = lambda: None  # type: ignore[method-assign]
    stopping = asyncio.create_task(replica.followers.stop())
    async with asyncio.timeout(5):
        while len(replica.leases.released) < 2:
            await asyncio.sleep(0)
    assert [1, 2] == replica.leases.released_fences
    slow.ending.set()
    await stopping
    assert [1, 2, 3] == replica.leases.released_fences


async def test_a_follower_that_breaks_takes_no_other_with_it_and_rests() -> None:
    replica = Replica()
    await replica.all_open()
    broken = replica.opened[0]
    broken.error = RuntimeError("a bug")
    broken.ending.set()
    await replica.turn_until(lambda: bool(replica.leases.released))
    assert [Rest(fence=broken.lease.fence, pause_s=5.0)] == replica.leases.released
    assert 2 == len(replica.followers.stream_ids)
    await replica.followers.stop()


async def test_a_replica_with_more_than_its_share_hands_over_to_one_with_less() -> None:
    replica = Replica(streams=6)
    await replica.all_open()
    replica.leases.counted = census((Lane.LIVE, "o", "a", 6))
    await replica.pass_s(2.0)
    await replica.turn_until(lambda: len(replica.leases.released) == 3)
    assert ([4, 5, 6], 3) == (replica.leases.released_fences, len(replica.followers.stream_ids))
    await replica.followers.stop()


async def test_a_recording_that_waits_for_its_analysis_makes_room_and_rests_until_it_can_go_on() -> None:
    replica = Replica(lane=Lane.VOD)
    await replica.all_open()
    waiting = replica.opened[1]
    waiting.awaited_windows = 7
    replica.leases.counted = census((Lane.VOD, ORGANIZATION, "a", 3), (Lane.VOD, ORGANIZATION, None, 9))
    for _ in range(16):
        await replica.pass_s(2.0)
    await replica.turn_until(lambda: bool(replica.leases.released))
    assert [Rest(fence=waiting.lease.fence, awaited_windows=7)] == replica.leases.released
    await replica.followers.stop()


async def test_a_recording_makes_room_for_another_organization() -> None:
    replica = Replica(lane=Lane.VOD)
    await replica.all_open()
    replica.leases.counted = census((Lane.VOD, ORGANIZATION, "a", 3), (Lane.VOD, "org_other", None, 1))
    for _ in range(3):
        await replica.pass_s(2.0)
    await replica.turn_until(lambda: bool(replica.leases.released))
    assert 2 == len(replica.followers.stream_ids)
    await replica.followers.stop()


KEYRING = Keyring([generate_key()])
SEALED = KEYRING.encrypt("https://cdn.example/live.m3u8", context=f"stream:{STREAM}")


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        (Source(sealed_url="not a token", display_url="x"), UNREADABLE),
        (Source(sealed_url=KEYRING.encrypt("x", context="stream:other"), display_url="x"), UNREADABLE),
        (Source(sealed_url=SEALED, sealed_headers=SEALED, display_url="x"), UNREADABLE),
        (
            Source(kind="rtmp", sealed_url=SEALED, display_url="x"),
            "sources of the kind rtmp cannot be followed",
        ),
    ],
)
async def test_a_source_that_cannot_be_opened_ends_its_run_with_the_reason(
    tmp_path: Path, source: Source, detail: str
) -> None:
    stream = Followed(
        stream_id=STREAM,
        organization_id=ORGANIZATION,
        run=0,
        lane=Lane.LIVE,
        profile_key="p",
        source=source,
    )
    journal = FakeJournal(stream)
    store = FolderObjectStore(tmp_path, public_base_url="http://x", signing_secret="s" * 32, clock=utc_now)
    factory = FollowerFactory(
        journal=journal,
        archive=Archive(store, FolderSpool(tmp_path, limit_bytes=0)),
        openers=hls_openers(FakeHttp()),
        keyring=KEYRING,
        clock=utc_now,
        policy=FollowerPolicy(),
    )
    follower = await factory(Lease(stream_id=STREAM, organization_id=ORGANIZATION, run=0, fence=1))
    assert follower is not None
    await asyncio.wait_for(follower.run(), 5)
    (ended,) = journal.events
    assert isinstance(ended, StreamEnded)
    assert ("source_refused", detail, 0) == (ended.cause, ended.detail, ended.segments)
