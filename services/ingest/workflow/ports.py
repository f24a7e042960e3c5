"""What the workflows of ingest need of the outside, and the values that pass between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from sqlmodel.ext.asyncio.session import AsyncSession

from ingest.domain.actions import FetchFailure
from ingest.domain.media_body import MediaBody
from ingest.domain.playlist import MediaPlaylist, Segment
from ingest.domain.recorder import Entry, Followed, Progress, SegmentRow
from ingest.domain.sharing import Census
from shared.errors import PermanentError, RetryableError
from shared.events import Lane, StreamOffline, StreamOnline
from shared.http_client import Limits, Response
from shared.ids import OrganizationId, StreamId


class LeaseLost(RetryableError):
    """Another replica holds the stream by now, or the stream is over: whatever is pending here is void."""

    code: ClassVar[str] = "lease_lost"


class SpoolFull(RetryableError):
    """The object store is away and the local folder has no room for another body."""

    code: ClassVar[str] = "spool_full"


class FetchFailed(RetryableError):
    """A request that brought nothing usable."""

    code: ClassVar[str] = "fetch_failed"

    def __init__(self, failure: FetchFailure) -> None:
        super().__init__(failure.detail or failure.label)
        self.failure = failure


class SourceUnusable(PermanentError):
    """A source that cannot even be opened; the message is a clause for the stream's owner."""

    code: ClassVar[str] = "source_unusable"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A held stream. `fence` is unique among all leases ever given."""

    stream_id: StreamId
    organization_id: OrganizationId
    run: int
    fence: int
    lane: Lane = Lane.LIVE
    is_offline: bool = False
    analysed_windows: int = 0


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """`is_takeover`: its last owner is not heard of any more."""

    lease: Lease
    is_takeover: bool = False


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A process that follows streams; its leases last for `lease_s` after it was last heard of."""

    owner: str
    lease_s: float
    capacities: Mapping[Lane, int]


@dataclass(frozen=True, kw_only=True)
class Rest:
    """A lease that is given back: nobody takes it before `pause_s`, nor before so many windows are analysed."""

    fence: int
    awaited_windows: int = 0
    pause_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A stream as its last owner left it; `open_segments` are what later windows may hold.

    `traceparent` is the trace that asked for the stream, where one did.
    """

    stream: Followed
    progress: Progress
    open_segments: tuple[SegmentRow, ...]
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True)
class FetchedSegment:
    """A whole segment in the clear; `init` precedes it for a decoder (fMP4), `sha256` is of the body."""

    body: bytes
    sha256: str
    media: MediaBody
    init: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class SourceAddress:
    """Where a stream's media comes from, in the clear; `headers` may hold credentials."""

    url: str
    headers: Mapping[str, str]


class MediaSource(Protocol):
    """What a follower reads: a live or finished media playlist, and whole segments.

    What is no playlist by nature (a file, a push protocol) is made into one by its adapter.
    """

    async def playlist(self, *, from_sequence: int) -> MediaPlaylist:
        """Raises FetchFailed."""
        ...

    async def segment(self, segment: Segment, *, epoch: int, left_s: float) -> FetchedSegment:
        """Body, decrypted and examined. `left_s` is how long it can still be had. Raises FetchFailed."""
        ...

    def forget_variant(self) -> None:
        """Ask the original address again at the next load."""
        ...

    def refuse_delta(self) -> None:
        """Load without the query that asks for delta updates."""
        ...

    async def close(self) -> None:
        """Let go of processes, sockets and files; called once, at the end of the following."""
        ...


@runtime_checkable
class OffersVariants(Protocol):
    """A source that has the same media in several renditions."""

    def leave_variant(self) -> bool:
        """Take the next best at the next load; without one, forgive all that was left and answer False."""
        ...


class OpenSource(Protocol):
    """Makes the source of one kind. Nothing is fetched yet. Raises SourceUnusable."""

    def __call__(self, stream: Followed, address: SourceAddress, progress: Progress) -> MediaSource: ...


class Http(Protocol):
    """The part of `SafeHttpClient` that ingest uses; errors as there."""

    async def get(
        self,
        url: str,
        *,
        limits: Limits,
        headers: Mapping[str, str] | None = None,
        byte_range: tuple[int, int] | None = None,
    ) -> Response: ...


class Leases(Protocol):
    """Who follows what; the clock is the database's. Every method raises DatabaseUnavailable."""

    async def renew(self, replica: Replica) -> tuple[Lease, ...]:
        """Say that the replica is alive; what it holds, and what is missing in the answer is lost."""
        ...

    async def claim(
        self, owner: str, *, lane: Lane, limit: int, patience_s: float, from_dead: bool
    ) -> tuple[Claimed, ...]:
        """Take up to `limit` streams that nobody holds, no more than the replica's even share of the lane.

        What has waited for `patience_s` is taken beyond the share. `from_dead`: also what belonged to replicas
        that are not heard of any more.
        """
        ...

    async def release(self, owner: str, *, rests: Sequence[Rest]) -> None:
        """Give back."""
        ...

    async def leave(self, owner: str) -> None:
        """The replica takes nothing more, and its share falls to the others."""
        ...

    async def go(self, owner: str) -> None:
        """The replica is no more: whatever it still holds is given back."""
        ...

    async def census(self) -> Census:
        """Who is alive, and how the streams are shared."""
        ...


class Journal(Protocol):
    """The durable side of a run. Every method raises DatabaseUnavailable."""

    async def open(self, lease: Lease) -> Opened | None:
        """None when there is nothing to follow: the stream is over."""
        ...

    async def commit(self, lease: Lease, entries: Sequence[Entry]) -> None:
        """Write the entries in one transaction under the fence. Raises LeaseLost, and then wrote nothing."""
        ...


class Register(Protocol):
    """Which streams shall be followed; works in the transaction of an event handler."""

    async def add(self, session: AsyncSession, event: StreamOnline) -> None: ...

    async def set_offline(self, session: AsyncSession, event: StreamOffline) -> None: ...

    async def close(self, session: AsyncSession, stream_id: StreamId) -> None: ...

    async def count_analysed(self, session: AsyncSession, stream_id: StreamId, *, run: int) -> None: ...


class Spool(Protocol):
    """Bodies on the local disk, bounded in bytes, while the object store is away."""

    async def keep(self, body: bytes) -> Path:
        """Raises SpoolFull."""
        ...

    async def drop(self, path: Path) -> None: ...
