"""What each action of the tracker leaves behind: rows, events, and the progress from which a successor goes on.

A fold in the order of the actions, so whoever resumes makes the same rows and ids. It writes nothing itself.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from ingest.domain.actions import (
    CommitSegment,
    Cursor,
    Ended,
    Joined,
    Resumed,
    SegmentLost,
    SignalSeen,
    Stalled,
)
from ingest.domain.ads import Exclusion, ExclusionKind
from ingest.domain.media_body import Container
from ingest.domain.timeline import PlacedSegment
from ingest.domain.windows import (
    ArchivedSegment,
    Planned,
    PlannerState,
    Window,
    WindowPlan,
    add_segment,
    close_run,
)
from ingest.domain.wording import explain
from shared.events import (
    Event,
    Lane,
    SegmentAnnotated,
    SegmentMissed,
    SegmentReady,
    SegmentRef,
    SignalReceived,
    Source,
    StreamEnded,
    StreamFlowing,
    StreamResumed,
    StreamStalled,
)
from shared.ids import OrganizationId, Position, StreamId, WindowId, event_id, window_id

LONGEST_TEXT: Final = 2000  # as `signal.received` bounds them
LONGEST_EXTERNAL_ID: Final = 200


@dataclass(frozen=True, kw_only=True)
class Followed:
    """One run of one stream: what was asked for."""

    stream_id: StreamId
    organization_id: OrganizationId
    run: int
    lane: Lane
    profile_key: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Archived media from `from_us` to `to_us` that no window holds, and why."""

    exclusion: Exclusion
    from_us: int
    to_us: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """All that a successor needs. `is_finished_list`: the source was a whole recording when we joined it.

    `stretch` is the excluded stretch that the last segment belongs to, which is told when it is over.
    """

    cursor: Cursor = field(default_factory=Cursor)
    planner: PlannerState = field(default_factory=PlannerState)
    archived_us: int = 0
    is_finished_list: bool = False
    excluded_us: int = 0
    annotation_count: int = 0
    stretch: Stretch | None = None

    def to_json(self) -> dict[str, Any]:
        """Primitives only; `from_json` reads them back."""
        return {
            "tracker": self.cursor.to_json(),
            "windows": self.planner.to_json(),
            "archived_us": self.archived_us,
            "is_finished_list": self.is_finished_list,
            **({"excluded": self._excluded_json()} if self.excluded_us else {}),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Progress":
        """Inverse of `to_json`."""
        return cls(
            cursor=Cursor.from_json(document["tracker"]),
            planner=PlannerState.from_json(document["windows"]),
            archived_us=document["archived_us"],
            is_finished_list=document["is_finished_list"],
            **_excluded_fields(document.get("excluded")),
        )

    def _excluded_json(self) -> dict[str, Any]:
        stretch = self.stretch
        open_stretch = stretch and [
            str(stretch.exclusion.kind),
            stretch.exclusion.detail,
            stretch.from_us,
            stretch.to_us,
        ]
        return {"us": self.excluded_us, "count": self.annotation_count, "stretch": open_stretch}

    @property
    def first_open_position(self) -> int:
        """The oldest stored segment that a later window may hold."""
        tail = (*self.planner.reach, *self.planner.tail)
        return tail[0].position if tail else self.cursor.timeline.segment_count


@dataclass(frozen=True, kw_only=True)
class StoredSegment:
    """The object of a segment, as it lies in the archive."""

    key: str
    size_bytes: int
    sha256: str
    container: Container
    init_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class SegmentRow:
    position: int
    ref: SegmentRef


@dataclass(frozen=True, kw_only=True)
class WindowRow:
    window_id: WindowId
    window: Window


@dataclass(frozen=True, kw_only=True)
class GapRow:
    index: int
    epoch: int
    from_sequence: int
    to_sequence: int
    start_us: int
    duration_us: int
    cause: str


@dataclass(frozen=True, kw_only=True)
class AnnotationRow:
    index: int
    stretch: Stretch


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one action writes, all in one transaction. `end_cause` is set in a run's last entry."""

    progress: Progress
    segment: SegmentRow | None = None
    gap: GapRow | None = None
    windows: tuple[WindowRow, ...] = ()
    annotation: AnnotationRow | None = None
    events: tuple[Event, ...] = ()
    end_cause: str | None = None


class Recorder:
    """Folds actions of one run, from the progress and the open segments that the last owner left."""

    def __init__(
        self, stream: Followed, *, plan: WindowPlan, progress: Progress, open_segments: tuple[SegmentRow, ...]
    ) -> None:
        """`open_segments` are the stored ones from `progress.first_open_position` on."""
        self._stream = stream
        self._plan = plan
        self._progress = progress
        self._refs = {row.position: row.ref for row in open_segments}

    @property
    def progress(self) -> Progress:
        """After the last action."""
        return self._progress

    def joined(self, action: Joined, *, is_finished_list: bool) -> Entry:
        self._progress = replace(self._progress, is_finished_list=is_finished_list)
        return self._entry(action.cursor)

    def segment(self, action: CommitSegment, *, stored: StoredSegment, at: datetime) -> Entry:
        """A segment is archived; that media flows now, and the windows that it completes, are told.

        What is no programme ends the open window and stands in none; the stretch is told when it is over.
        """
        ref = _ref(action, stored)
        self._refs[action.placed.position] = ref
        annotation = self._close_stretch(action.excluded)
        planner, windows = self._planned(action)
        flowing, ready = self._flowing(action.placed, at=at), self._ready(windows, at=at)
        self._advance(planner, archived_us=action.placed.duration_us)
        if action.excluded is not None:
            self._exclude(action.excluded, action.placed)
        return self._entry(
            action.cursor,
            segment=SegmentRow(position=action.placed.position, ref=ref),
            windows=self._rows(windows),
            annotation=annotation,
            events=(*flowing, *self._annotated(annotation, at=at), *ready),
        )

    def signal(self, action: SignalSeen, *, at: datetime) -> Entry:
        """Something that the stream told beside its picture. Told again, it has the same id."""
        origin: Literal["captions", "playlist"] = "captions" if action.kind == "caption" else "playlist"
        place = (origin, action.external_id, action.wall_at.isoformat() if action.wall_at else "")
        head = self._head(SignalReceived.name, self._stream.run, *place, at=at)
        event = SignalReceived(
            **head,
            kind=action.kind.value,
            at_us=action.at_us,
            wall_at=action.wall_at,
            duration_us=action.duration_us,
            text=action.text[:LONGEST_TEXT],
            origin=origin,
            external_id=action.external_id[:LONGEST_EXTERNAL_ID],
        )
        return Entry(progress=self._progress, events=(event,))

    def lost(self, action: SegmentLost, *, at: datetime) -> Entry:
        """A gap; the open window ends before it."""
        annotation = self._close_stretch(None)
        planner, windows = close_run(self._progress.planner, plan=self._plan)
        ready = self._ready(windows, at=at)
        self._advance(planner)
        gap = GapRow(
            index=action.placed.index,
            epoch=action.epoch,
            from_sequence=action.from_sequence,
            to_sequence=action.to_sequence,
            start_us=action.placed.start_us,
            duration_us=action.placed.duration_us,
            cause=str(action.cause),
        )
        events = (*self._annotated(annotation, at=at), *ready, self._missed(gap, at=at))
        rows = self._rows(windows)
        return self._entry(action.cursor, gap=gap, windows=rows, annotation=annotation, events=events)

    def stalled(self, action: Stalled, *, at: datetime) -> Entry:
        fields = self._fields(StreamStalled.name, action.index, at=at)
        at_us = action.cursor.timeline.position_us
        event = StreamStalled(**fields, index=action.index, at_us=at_us, cause=action.cause)
        return self._entry(action.cursor, events=(event,))

    def resumed(self, action: Resumed, *, at: datetime) -> Entry:
        fields = self._fields(StreamResumed.name, action.index, at=at)
        event = StreamResumed(**fields, index=action.index, at_us=action.cursor.timeline.position_us)
        return self._entry(action.cursor, events=(event,))

    def ended(self, action: Ended, *, at: datetime) -> Entry:
        """The run is over: its last window, and the list of all there are."""
        annotation = self._close_stretch(None)
        planner, windows = close_run(self._progress.planner, plan=self._plan)
        ready = self._ready(windows, at=at)
        self._advance(planner)
        return self._entry(
            action.cursor,
            windows=self._rows(windows),
            annotation=annotation,
            events=(*self._annotated(annotation, at=at), *ready, self._ended(action, at=at)),
            end_cause=str(action.cause),
        )

    # -- pieces ----------------------------------------------------------------------------------------

    def _planned(self, action: CommitSegment) -> Planned:
        if action.excluded is not None:
            return close_run(self._progress.planner, plan=self._plan)
        archived = ArchivedSegment.of(action.placed)
        return add_segment(self._progress.planner, segment=archived, plan=self._plan)

    def _close_stretch(self, following: Exclusion | None) -> AnnotationRow | None:
        """The open stretch is over when what follows is not excluded for the same reason."""
        stretch, index = self._progress.stretch, self._progress.annotation_count
        if stretch is None or stretch.exclusion == following:
            return None
        self._progress = replace(self._progress, stretch=None, annotation_count=index + 1)
        return AnnotationRow(index=index, stretch=stretch)

    def _exclude(self, exclusion: Exclusion, placed: PlacedSegment) -> None:
        stretch = self._progress.stretch
        from_us = stretch.from_us if stretch is not None else placed.start_us
        self._progress = replace(
            self._progress,
            excluded_us=self._progress.excluded_us + placed.duration_us,
            stretch=Stretch(exclusion=exclusion, from_us=from_us, to_us=placed.end_us),
        )

    def _annotated(self, row: AnnotationRow | None, *, at: datetime) -> tuple[Event, ...]:
        if row is None:
            return ()
        event = SegmentAnnotated(
            **self._fields(SegmentAnnotated.name, row.index, at=at),
            index=row.index,
            kind=row.stretch.exclusion.kind.value,
            from_us=row.stretch.from_us,
            to_us=row.stretch.to_us,
            detail=row.stretch.exclusion.detail,
        )
        return (event,)

    def _advance(self, planner: PlannerState, *, archived_us: int = 0) -> None:
        total_us = self._progress.archived_us + archived_us
        self._progress = replace(self._progress, planner=planner, archived_us=total_us)

    def _entry(self, cursor: Cursor, **written: Any) -> Entry:
        self._progress = replace(self._progress, cursor=cursor)
        oldest = self._progress.first_open_position
        self._refs = {position: ref for position, ref in self._refs.items() if position >= oldest}
        return Entry(progress=self._progress, **written)

    def _fields(self, name: str, index: int, *, at: datetime) -> dict[str, Any]:
        return self._head(name, Position(self._stream.run, index), at=at)

    def _head(self, name: str, *place: Position | int | str, at: datetime) -> dict[str, Any]:
        stream = self._stream
        return {
            "event_id": event_id(stream.stream_id, name, *place),
            "organization_id": stream.organization_id,
            "stream_id": stream.stream_id,
            "occurred_at": at,
            "lane": stream.lane,
            "run": stream.run,
        }

    def _flowing(self, placed: PlacedSegment, *, at: datetime) -> tuple[Event, ...]:
        """Told with the first segment of the run, and never again."""
        if placed.position > 0:
            return ()
        head = self._head(StreamFlowing.name, self._stream.run, at=at)
        return (StreamFlowing(**head, at_us=placed.start_us, wall_at=placed.wall_at),)

    def _ready(self, windows: tuple[Window, ...], *, at: datetime) -> tuple[Event, ...]:
        return tuple(self._segment_ready(window, at=at) for window in windows)

    def _segment_ready(self, window: Window, *, at: datetime) -> SegmentReady:
        refs = tuple(self._refs[n] for n in range(window.first_position, window.last_position + 1))
        return SegmentReady(
            **self._fields(SegmentReady.name, window.index, at=at),
            index=window.index,
            start_us=window.start_us,
            end_us=window.end_us,
            wall_at=refs[0].wall_at,
            profile_key=self._stream.profile_key,
            segments=refs,
        )

    def _missed(self, gap: GapRow, *, at: datetime) -> SegmentMissed:
        return SegmentMissed(
            **self._fields(SegmentMissed.name, gap.index, at=at),
            index=gap.index,
            from_us=gap.start_us,
            to_us=gap.start_us + gap.duration_us,
            epoch=gap.epoch,
            from_sequence=gap.from_sequence,
            to_sequence=gap.to_sequence,
            cause=gap.cause,
        )

    def _ended(self, action: Ended, *, at: datetime) -> StreamEnded:
        timeline, count = action.cursor.timeline, self._progress.planner.next_index
        return StreamEnded(
            **self._fields(StreamEnded.name, 0, at=at),
            cause=str(action.cause),
            detail=explain(action.cause, action.detail),
            windows=tuple(self._window_id(index) for index in range(count)),
            gap_indexes=tuple(range(timeline.gap_count)),
            media_duration_us=self._progress.archived_us,
            offered_us=timeline.position_us,
            segments=timeline.segment_count,
            excluded_us=self._progress.excluded_us,
        )

    def _window_id(self, index: int) -> WindowId:
        return window_id(self._stream.stream_id, Position(self._stream.run, index))

    def _rows(self, windows: tuple[Window, ...]) -> tuple[WindowRow, ...]:
        return tuple(WindowRow(window_id=self._window_id(each.index), window=each) for each in windows)


def _excluded_fields(document: dict[str, Any] | None) -> dict[str, Any]:
    if document is None:
        return {}
    fields = {"excluded_us": document["us"], "annotation_count": document["count"]}
    if document["stretch"] is None:
        return fields
    kind, detail, from_us, to_us = document["stretch"]
    exclusion = Exclusion(kind=ExclusionKind(kind), detail=detail)
    return fields | {"stretch": Stretch(exclusion=exclusion, from_us=from_us, to_us=to_us)}


def _ref(action: CommitSegment, stored: StoredSegment) -> SegmentRef:
    placed: PlacedSegment = action.placed
    return SegmentRef(
        key=stored.key,
        epoch=action.epoch,
        sequence=action.sequence,
        start_us=placed.start_us,
        duration_us=placed.duration_us,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        container=stored.container,
        init_key=stored.init_key,
        discontinuity=bool(placed.break_before),
        wall_at=placed.wall_at,
    )
