"""What the repair of gaps needs of the outside, and the values that pass between."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from sqlmodel.ext.asyncio.session import AsyncSession

from ingest.domain.recorder import Followed
from ingest.domain.repair import Excluded, Filled, Gap, Recording
from shared.errors import PermanentError, RetryableError
from shared.events import Event, RecordingAvailable, SegmentRef
from shared.ids import OrganizationId, StreamId, WindowId


class RecordingUnusable(PermanentError):
    """The recording cannot be fetched or read; the message is a clause for the stream's owner."""

    code: ClassVar[str] = "recording_unusable"


class RecordingUnavailable(RetryableError):
    """The recording cannot be fetched now."""

    code: ClassVar[str] = "recording_unavailable"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recording that this replica holds. `fence` is unique among all claims; `attempts` counts from 1."""

    stream_id: StreamId
    organization_id: OrganizationId
    run: int
    recording_id: str
    fence: int
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a job is about: a run that is over, its gaps that stay, and the recording that may fill them."""

    stream: Followed
    recording: Recording
    sealed_url: str
    gaps: tuple[Gap, ...]
    excluded: tuple[Excluded, ...] = ()
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True)
class GapOutcome:
    """What became of one gap, with the events that tell it."""

    filled: Filled
    reason: str
    segments: tuple[SegmentRef, ...] = ()
    windows: tuple[WindowId, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CutFile:
    """One piece of a recording in the scratch folder."""

    path: Path


class OpenRecording(Protocol):
    """A recording that is being read."""

    def cut(self, *, from_us: int, to_us: int) -> AsyncIterator[CutFile]:
        """Pieces of MPEG-TS in order, each beginning with a key frame, whose times are those of the recording.

        The first begins at or before `from_us`. Raises RecordingUnusable and the media runner's errors.
        """
        ...


class RecordingCutter(Protocol):
    def open(self, url: str) -> AbstractAsyncContextManager[OpenRecording]:
        """Raises RecordingUnusable, and RetryableError where another try may help."""
        ...


class RecordingRegister(Protocol):
    """Which recordings there are; works in the transaction of an event handler."""

    async def add(self, session: AsyncSession, event: RecordingAvailable) -> None: ...


class RepairJobs(Protocol):
    """Recordings whose run is over, each held by one replica at a time. Every method raises DatabaseUnavailable."""

    async def claim(self, owner: str, *, limit: int, lease_s: float) -> tuple[Job, ...]: ...

    async def extend(self, job: Job, *, lease_s: float) -> None: ...

    async def postpone(self, job: Job, *, pause_s: float) -> None:
        """Give back; nobody takes it before `pause_s` have passed."""
        ...

    async def release(self, job: Job) -> None:
        """Give back undone, for whoever takes it at once; the attempt does not count."""
        ...

    async def open(self, job: Job) -> Task | None:
        """None when there is nothing to repair (any more)."""
        ...

    async def commit(self, job: Job, outcomes: Sequence[GapOutcome]) -> None:
        """Write all in one transaction under the fence. Raises LeaseLost, and then wrote nothing.

        Also lost is what belongs to a stream that was closed since, or has another run.
        """
        ...

    async def finish(self, job: Job) -> None:
        """The recording has been gone through."""
        ...
