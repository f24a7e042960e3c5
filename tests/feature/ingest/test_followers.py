"""The loop over the leases: capacity, renewal, loss, stop, and sources that cannot be opened."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ingest.adapters.spool import FolderSpool
from ingest.domain.recorder import Followed
from ingest.loops import UNREADABLE, ClaimPolicy, FollowerFactory, Followers
from ingest.workflow.archive import Archive
from ingest.workflow.follower import FollowerPolicy
from ingest.workflow.intake import Wake
from ingest.workflow.ports import Lease
from shared.clock import utc_now
from shared.database import DatabaseUnavailable
from shared.events import Lane, Source, StreamEnded
from shared.ids import StreamId
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
    def __init__(self, *, capacity: int = 10, streams: int = 3) -> None:
        self.leases = FakeLeases([lease(n) for n in range(streams)])
        self.opened: list[StubFollower] = []
        self.now_s = 0.0
        self.wake = Wake()
        self.followers = Followers(
            owner="a",
            leases=self.leases,
            open_follower=self._open,
            wake=self.wake,
            policy=ClaimPolicy(capacity=capacity, batch=2),
            now_s=lambda: self.now_s,
        )

    async def _open(self, given: Lease) -> Any:
        self.opened.append(StubFollower(given))
        return self.opened[-1]

    async def turn_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await self.followers.turn()
                await asyncio.sleep(0)

    async def all_open(self) -> None:
        await self.turn_until(lambda: len(self.opened) == 3)


def lease(n: int) -> Lease:
    return Lease(stream_id=StreamId(f"str_{n:012x}"), organization_id=ORGANIZATION, run=0, fence=0)


async def test_a_replica_takes_no_more_than_its_capacity() -> None:
    replica = Replica(capacity=3, streams=7)
    for _ in range(5):
        await replica.followers.turn()
    assert (3, 4) == (len(replica.followers.stream_ids), len(replica.leases.free))
    await replica.followers.stop()


async def test_leases_are_renewed_in_time_and_not_at_every_turn() -> None:
    replica = Replica()
    await replica.all_open()
    before = replica.leases.renewals
    await replica.followers.turn()
    assert before == replica.leases.renewals
    replica.now_s = 2.0
    await replica.followers.turn()
    assert before + 1 == replica.leases.renewals
    await replica.followers.stop()


async def test_a_wake_brings_news_to_the_followers_at_once() -> None:
    replica = Replica()
    await replica.all_open()
    fence = replica.opened[1].lease.fence
    replica.leases.held[fence] = replace(replica.leases.held[fence], is_offline=True)
    replica.wake.event.set()
    await replica.followers.turn()
    assert [False, True, False] == [each.learned[-1].is_offline for each in replica.opened]
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


async def test_followers_go_on_while_the_database_is_away() -> None:
    replica = Replica()
    await replica.all_open()
    replica.leases.is_away, replica.now_s = True, 60.0
    with pytest.raises(DatabaseUnavailable):
        await replica.followers.turn()
    assert 3 == len(replica.followers.stream_ids)
    replica.leases.is_away = False
    await replica.followers.stop()


async def test_a_stop_gives_every_lease_back() -> None:
    replica = Replica()
    await replica.all_open()
    await replica.followers.stop()
    assert ([1, 2, 3], ()) == (sorted(replica.leases.released), replica.followers.stream_ids)


async def test_a_follower_that_breaks_takes_no_other_with_it() -> None:
    replica = Replica()
    await replica.all_open()
    broken = replica.opened[0]
    broken.error = RuntimeError("a bug")
    broken.ending.set()
    await replica.turn_until(lambda: len(replica.followers.stream_ids) == 2)
    assert [] == replica.leases.released
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
