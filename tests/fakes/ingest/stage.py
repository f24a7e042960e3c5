"""A scripted source that is live from the first request on, and all else that a follower needs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from ingest.adapters.spool import FolderSpool
from ingest.domain.policy import TrackerPolicy
from ingest.domain.recorder import Followed
from ingest.workflow.archive import Archive
from ingest.workflow.follower import Follower, FollowerPolicy
from ingest.workflow.ports import Lease
from ingest.workflow.source import HlsSource
from sandbox.live_window import LiveSegment, LiveWindow
from shared.clock import utc_now
from shared.events import Lane, Source, StreamEnded
from shared.object_store import FolderObjectStore, Stored, StoreUnavailable
from tests.builders import ORGANIZATION, STREAM
from tests.fakes.ingest.http import Answer, FakeHttp
from tests.fakes.ingest.journal import FakeJournal
from tests.fakes.ingest.media import ts_segment

BASE = "https://cdn.example/live"
URL = f"{BASE}/stream.m3u8"
SEGMENT_US = 2_000_000
SPEED = 100.0
POLICY = FollowerPolicy(tracker=TrackerPolicy().scaled(speed=SPEED))
FOLLOWED = Followed(
    stream_id=STREAM,
    organization_id=ORGANIZATION,
    run=0,
    lane=Lane.LIVE,
    profile_key="profiles/0.json",
    source=Source(sealed_url="x", display_url="x"),
)
LEASE = Lease(stream_id=STREAM, organization_id=ORGANIZATION, run=0, fence=1)


class FlakyStore(FolderObjectStore):
    is_away = False

    async def put(self, key: str, body: bytes, *, content_type: str | None = None) -> Stored:
        self._check()
        return await super().put(key, body, content_type=content_type)

    async def put_once(
        self, key: str, body: bytes, *, content_type: str | None = None, sha256: str | None = None
    ) -> Stored:
        self._check()
        return await super().put_once(key, body, content_type=content_type, sha256=sha256)

    def _check(self) -> None:
        if self.is_away:
            raise StoreUnavailable("away")


def window(count: int = 15, **changes: object) -> LiveWindow:
    segments = tuple(LiveSegment(f"{n:03}.ts", n * SEGMENT_US, SEGMENT_US) for n in range(count))
    return LiveWindow(segments, **({"speed": SPEED, "window": 5} | changes))  # type: ignore[arg-type]


@dataclass
class Stage:
    """A source that is live from the first request on, and all that a follower needs."""

    folder: Path
    live: LiveWindow = field(default_factory=window)
    http: FakeHttp = field(default_factory=FakeHttp)
    journal: FakeJournal = field(default_factory=lambda: FakeJournal(FOLLOWED))
    spool_bytes: int = 10**9
    rewrite: Callable[[str], str] = str
    began_s: float = 0.0
    may_end: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        self.store = FlakyStore(
            self.folder / "objects", public_base_url="http://x", signing_secret="s" * 32, clock=utc_now
        )
        self.http.pages[URL] = self.playlist
        for each in self.live.segments:
            self.http.pages[f"{BASE}/{each.uri}"] = ts_segment(each.start_us, each.duration_us)

    def playlist(self) -> Answer:
        self.began_s = self.began_s or monotonic()
        elapsed_s = monotonic() - self.began_s + 0.05
        text = self.live.playlist(elapsed_s, went_live_at=datetime(2026, 1, 1, tzinfo=UTC))
        if not self.may_end():
            text = text.replace("#EXT-X-ENDLIST\n", "")
        return self.rewrite(text).encode()

    async def follower(
        self,
        *,
        lease: Lease = LEASE,
        policy: FollowerPolicy = POLICY,
        gate: asyncio.Semaphore | None = None,
    ) -> Follower:
        spool = self.folder / "spool"
        spool.mkdir(exist_ok=True)
        return Follower(
            await self.journal.open(lease),
            lease,
            source=HlsSource(self.http, URL, headers={"X-Token": "t"}, target_height=720),
            archive=Archive(self.store, FolderSpool(spool, limit_bytes=self.spool_bytes)),
            journal=self.journal,
            policy=policy,
            clock=utc_now,
            gate=gate,
        )

    async def run(self, *, policy: FollowerPolicy = POLICY) -> StreamEnded:
        await asyncio.wait_for((await self.follower(policy=policy)).run(), 20)
        (ended,) = self.of(StreamEnded)
        assert isinstance(ended, StreamEnded)
        return ended

    @property
    def spooled(self) -> list[Path]:
        return list((self.folder / "spool").glob("*/*.body"))

    def of(self, model: type) -> list:  # type: ignore[type-arg]
        return [event for event in self.journal.events if isinstance(event, model)]

    def body_of(self, sequence: int) -> bytes:
        ref = next(
            e.segment.ref for e in self.journal.entries if e.segment and e.segment.ref.sequence == sequence
        )
        return (self.folder / "objects" / ref.key).read_bytes()
