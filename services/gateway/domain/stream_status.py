"""The public states of a stream as a table of transitions, and the stream as the gateway knows it.

A terminal state is never left, except by a new run. Who decides to move stands in `completion.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from shared.ids import HighlightId, OrganizationId, StreamId, WindowId


class StreamStatus(StrEnum):
    """What the API calls the state of a stream. The last three are terminal."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    ERROR = "error"
    CANCELLED = "cancelled"


_P = StreamStatus
# Media was archived as soon as a stream is processing: from there it can only complete, perhaps in part.
TRANSITIONS: Mapping[StreamStatus, frozenset[StreamStatus]] = MappingProxyType(
    {
        _P.PENDING: frozenset({_P.PROCESSING, _P.COMPLETED, _P.ERROR, _P.CANCELLED}),
        _P.PROCESSING: frozenset({_P.COMPLETED}),
        _P.COMPLETED: frozenset(),
        _P.ERROR: frozenset(),
        _P.CANCELLED: frozenset(),
    }
)
TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)


def is_terminal(status: StreamStatus) -> bool:
    return status in TERMINAL


def advance(current: StreamStatus, wanted: StreamStatus) -> StreamStatus:
    """The wanted status where the table allows the step, else the current one."""
    return wanted if wanted in TRANSITIONS[current] else current


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What ingest said at the end of a run."""

    cause: str
    detail: str = ""
    windows: tuple[WindowId, ...] = ()
    gap_indexes: tuple[int, ...] = ()
    media_duration_us: int = 0
    offered_us: int = 0
    segments: int = 0
    excluded_us: int = 0


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the selector said when it had judged every window of a run; `revision` counts windows of repairs since."""

    final: tuple[tuple[HighlightId, int], ...]
    windows_analysed: int = 0
    windows_skipped: int = 0
    windows_failed: int = 0
    failure_reason: str = ""
    revision: int = 0


@dataclass(frozen=True, kw_only=True)
class StreamRecord:
    """One row of the streams table, without its secrets. Media times are microseconds."""

    stream_id: StreamId
    organization_id: OrganizationId
    run: int = 0
    lane: str = "live"
    platform: str
    display_url: str
    title: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    status: StreamStatus = StreamStatus.PENDING
    partial: bool = False
    cause: str | None = None
    error: str | None = None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    completed_at: datetime | None = None
    stop_requested_at: datetime | None = None
    deadline_at: datetime
    next_sequence: int = 1
    offered_us: int = 0
    media_duration_us: int = 0
    ended: Ended | None = None
    selection: Selection | None = None
    source_started_at: datetime | None = None
    source_end: str | None = None
    source_failed: bool = False
    external_id: str | None = None
    source_kind: str = "hls"
    source_check: Mapping[str, Any] | None = None
    channel_name: str = ""
    game_name: str = ""

    @property
    def has_media(self) -> bool:
        """Whether anything of the stream was archived."""
        return self.started_at is not None or (self.ended is not None and self.ended.segments > 0)
