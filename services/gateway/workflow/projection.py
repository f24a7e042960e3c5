"""Projects the pipeline's events into what the API shows, in any order and any number of repeats.

Each event first moves its stream's row, which locks it, then writes its own row, then what follows from the two:
the start, announcements of highlights, the end. SQL stands in `adapters/projection_store.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol

import structlog

from gateway.domain.events_feed import Announcement, HighlightState, PublicEventType, due_announcement
from gateway.domain.public_views import playable_at_once
from gateway.domain.stream_status import Ended, Selection, StreamRecord, StreamStatus, is_terminal
from gateway.workflow import completion
from gateway.workflow.completion import Completer
from gateway.workflow.public_events import WEBHOOK_URL_EXPIRES_S, PublicEvents, Unit, highlight_view
from shared import events, metrics
from shared.clock import Clock
from shared.errors import PermanentError
from shared.ids import HighlightId, OrganizationId, StreamId
from shared.middleware import UnitOfWork

log = structlog.get_logger()

PROGRESS_TIMEOUT = timedelta(minutes=15)
MOST_SIGNALS = 200_000  # of one stream; more are counted, and not kept


class StreamUnknown(PermanentError):
    """An event names a stream that this organization does not have."""

    code: ClassVar[str] = "stream_unknown"


@dataclass(frozen=True, kw_only=True)
class Movement:
    """What an event changes in its stream's row. `run` None: the event does not know its run.

    `seen_at` is when media was first seen, by this event; times of media only rise. `ended` and `selection` are
    taken as they are told.
    """

    at: datetime
    deadline_at: datetime
    run: int | None = None
    seen_at: datetime | None = None
    media_end_us: int = 0
    offered_end_us: int = 0
    ended: Ended | None = None
    ended_at: datetime | None = None
    selection: Selection | None = None


class Store(completion.Store, Protocol):
    """The rows of one tenant, in the caller's transaction. Every `put` is an upsert in which the newest wins."""

    async def move(self, stream_id: StreamId, movement: Movement) -> StreamRecord | None:
        """Lock and move the stream's row; None where there is none, or it is in another run."""
        ...

    async def has_stream(self, stream_id: StreamId) -> bool: ...

    async def put_window(self, event: events.SegmentReady) -> None: ...

    async def put_verdict(self, event: events.SegmentAnalyzed) -> None: ...

    async def put_gap(self, event: events.SegmentMissed) -> None: ...

    async def put_stall(self, event: events.StreamStalled | events.StreamResumed) -> None: ...

    async def put_annotation(self, event: events.SegmentAnnotated) -> None: ...

    async def put_repair(self, event: events.SegmentRepaired) -> None: ...

    async def put_signal(self, event: events.SignalReceived, *, most: int) -> bool:
        """Keep the signal once, unless the stream has had `most` of them; whether it is kept."""
        ...

    async def put_candidate(self, event: events.CandidateScored) -> None: ...

    async def put_judgement(self, event: events.CandidateJudged) -> None: ...

    async def put_highlight(self, event: events.HighlightEvent) -> None: ...

    async def put_retraction(self, event: events.HighlightRetracted) -> None: ...

    async def put_clip(self, event: events.ClipReady | events.ClipFailed) -> None: ...

    async def put_parked(self, event: events.MessageParked) -> None: ...

    async def finish_deliveries(
        self, organization_id: OrganizationId, results: tuple[events.DeliveryResult, ...]
    ) -> None: ...

    async def highlight_state(self, stream_id: StreamId, highlight_id: HighlightId) -> HighlightState: ...


@dataclass(frozen=True)
class Projection:
    """Handlers for every event that the gateway receives; `stores` binds a store to a unit's transaction."""

    stores: Callable[[UnitOfWork], Store]
    public_events: PublicEvents
    completer: Completer
    clock: Clock
    progress_timeout: timedelta = field(default=PROGRESS_TIMEOUT)

    # -- ingest --------------------------------------------------------------------------------------

    async def on_stream_flowing(self, event: events.StreamFlowing, unit: UnitOfWork) -> None:
        """As a rule the first sign of media; any later event of media says the same where this one is late."""
        store = self.stores(unit)
        stream = await self._move(event, store, run=event.run, seen_at=event.occurred_at)
        await self._review(stream, store, unit)

    async def on_segment_ready(self, event: events.SegmentReady, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        stream = await self._move(
            event,
            store,
            run=event.run,
            seen_at=event.occurred_at,
            media_end_us=event.end_us,
            offered_end_us=event.end_us,
        )
        await store.put_window(event)
        await self._review(stream, store, unit)

    async def on_segment_missed(self, event: events.SegmentMissed, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        stream = await self._move(event, store, run=event.run, offered_end_us=event.to_us)
        await store.put_gap(event)
        await self._review(stream, store, unit)

    async def on_segment_annotated(self, event: events.SegmentAnnotated, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        stream = await self._move(
            event,
            store,
            run=event.run,
            seen_at=event.occurred_at,
            media_end_us=event.to_us,
            offered_end_us=event.to_us,
        )
        await store.put_annotation(event)
        await self._review(stream, store, unit)

    async def on_segment_repaired(self, event: events.SegmentRepaired, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        stream = await self._move(event, store, run=event.run)
        await store.put_repair(event)
        await self._review(stream, store, unit)

    async def on_signal_received(self, event: events.SignalReceived, unit: UnitOfWork) -> None:
        """Moves nothing: a busy chat must not keep its stream's row locked."""
        store = self.stores(unit)
        if not await store.has_stream(event.stream_id):
            raise StreamUnknown(f"{event.organization_id} has no stream {event.stream_id} ({event.name})")
        kept = await store.put_signal(event, most=MOST_SIGNALS)
        metrics.signals.labels(event.kind, "kept" if kept else "not_kept").inc()

    async def on_stream_stalled(self, event: events.StreamStalled, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        await self._move(event, store, run=event.run)
        await store.put_stall(event)

    async def on_stream_resumed(self, event: events.StreamResumed, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        await self._move(event, store, run=event.run)
        await store.put_stall(event)

    async def on_stream_ended(self, event: events.StreamEnded, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        stream = await self._move(
            event,
            store,
            run=event.run,
            seen_at=event.occurred_at if event.segments else None,
            ended=_ended(event),
            ended_at=event.occurred_at,
        )
        await self._review(stream, store, unit)

    # -- analyzer ------------------------------------------------------------------------------------

    async def on_candidate_scored(self, event: events.CandidateScored, unit: UnitOfWork) -> None:
        await self.stores(unit).put_candidate(event)

    async def on_segment_analyzed(self, event: events.SegmentAnalyzed, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        stream = await self._move(event, store, run=event.run, seen_at=event.occurred_at)
        await store.put_verdict(event)
        await self._review(stream, store, unit)

    # -- selector ------------------------------------------------------------------------------------

    async def on_candidate_judged(self, event: events.CandidateJudged, unit: UnitOfWork) -> None:
        await self.stores(unit).put_judgement(event)

    async def on_highlight_confirmed(self, event: events.HighlightConfirmed, unit: UnitOfWork) -> None:
        await self._on_highlight(event, unit)

    async def on_highlight_revised(self, event: events.HighlightRevised, unit: UnitOfWork) -> None:
        await self._on_highlight(event, unit)

    async def _on_highlight(self, event: events.HighlightEvent, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        stream = await self._move(event, store, run=event.run, seen_at=event.occurred_at)
        await store.put_highlight(event)
        if stream is None:
            return
        stream = await self._begin(stream, store, unit)
        state = await store.highlight_state(event.stream_id, event.highlight_id)
        stream = await self._detect(stream, state, store, unit)
        stream = await self._announce(stream, state, store, unit)
        await self._review(stream, store, unit)

    async def on_highlight_retracted(self, event: events.HighlightRetracted, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        stream = await self._move(event, store)
        await store.put_retraction(event)
        await self._tell_highlight(stream, event.highlight_id, store, unit)

    async def on_selection_closed(self, event: events.SelectionClosed, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        stream = await self._move(event, store, run=event.run, selection=_selection(event))
        await self._review(stream, store, unit)

    # -- clipper -------------------------------------------------------------------------------------

    async def on_clip_ready(self, event: events.ClipReady, unit: UnitOfWork) -> None:
        await self._on_clip(event, unit)

    async def on_clip_failed(self, event: events.ClipFailed, unit: UnitOfWork) -> None:
        await self._on_clip(event, unit)

    async def _on_clip(self, event: events.ClipReady | events.ClipFailed, unit: UnitOfWork) -> None:
        store = self.stores(unit)
        stream = await self._move(event, store, seen_at=event.occurred_at)
        await store.put_clip(event)
        await self._tell_highlight(stream, event.highlight_id, store, unit)

    # -- notifier, and everybody ---------------------------------------------------------------------

    async def on_delivery_finished(self, event: events.DeliveryFinished, unit: UnitOfWork) -> None:
        await self.stores(unit).finish_deliveries(event.organization_id, event.results)

    async def on_message_parked(self, event: events.MessageParked, unit: UnitOfWork) -> None:
        """Also kept where the stream is unknown: then it is all that there is to see."""
        store = self.stores(unit)
        stream = None
        if event.stream_id is not None:
            stream = await store.move(event.stream_id, self._movement())
        await store.put_parked(event)
        await self._review(stream, store, unit)

    # -- what follows --------------------------------------------------------------------------------

    def _movement(self, **changes: Any) -> Movement:
        now = self.clock()
        return Movement(at=now, deadline_at=now + self.progress_timeout, **changes)

    async def _move(self, event: events.StreamEvent, store: Store, **changes: Any) -> StreamRecord | None:
        """The moved stream; None when the event belongs to a run that is over. Raises StreamUnknown."""
        stream = await store.move(event.stream_id, self._movement(**changes))
        if stream is not None:
            return stream
        if not await store.has_stream(event.stream_id):
            raise StreamUnknown(f"{event.organization_id} has no stream {event.stream_id} ({event.name})")
        log.info("event_of_another_run", event_name=event.name, stream_id=event.stream_id)
        return None

    async def _begin(self, stream: StreamRecord, store: Store, unit: Unit) -> StreamRecord:
        if stream.status is not StreamStatus.PENDING or stream.started_at is None:
            return stream
        return await self.completer.begin(stream, store=store, unit=unit)

    async def _review(self, stream: StreamRecord | None, store: Store, unit: Unit) -> None:
        if stream is None:
            return
        stream = await self._begin(stream, store, unit)
        if _may_be_over(stream):
            await self.completer.review(stream, store=store, unit=unit)

    async def _tell_highlight(
        self, stream: StreamRecord | None, highlight_id: HighlightId, store: Store, unit: Unit
    ) -> None:
        if stream is None:
            return
        stream = await self._begin(stream, store, unit)
        state = await store.highlight_state(stream.stream_id, highlight_id)
        stream = await self._announce(stream, state, store, unit)
        await self._review(stream, store, unit)

    async def _detect(
        self, stream: StreamRecord, state: HighlightState, store: Store, unit: Unit
    ) -> StreamRecord:
        """Once, at the first sight of a highlight; what is seen after the end is told by its clip alone."""
        if state.highlight is None or state.highlight.retracted or state.announced is not None:
            return stream
        if is_terminal(stream.status):
            return stream
        due = Announcement(kind=PublicEventType.HIGHLIGHT_DETECTED, parts=(state.highlight.highlight_id,))
        return await self._mint(stream, due, state, store, unit)

    async def _announce(
        self, stream: StreamRecord, state: HighlightState, store: Store, unit: Unit
    ) -> StreamRecord:
        due = due_announcement(state)
        if due is None:
            return stream
        return await self._mint(stream, due, state, store, unit)

    async def _mint(
        self,
        stream: StreamRecord,
        due: Announcement,
        state: HighlightState,
        store: Store,
        unit: Unit,
    ) -> StreamRecord:
        assert state.highlight is not None
        view = await highlight_view(
            stream,
            state.highlight,
            state.clips,
            links=self.public_events.links,
            playback=self.public_events.playback,
            expires_s=WEBHOOK_URL_EXPIRES_S,
        )
        if due.kind is PublicEventType.HIGHLIGHT_DETECTED:
            view = playable_at_once(view)
        content = view.model_dump(mode="json")
        return await self.public_events.mint(
            stream, due.kind, parts=due.parts, content=content, feed=store, unit=unit
        )


def _may_be_over(stream: StreamRecord) -> bool:
    """Whether a look at all facts can be worth its round trip."""
    if stream.ended is None:
        return not stream.has_media
    return stream.selection is not None or not stream.ended.windows


def _ended(event: events.StreamEnded) -> Ended:
    return Ended(
        cause=event.cause,
        detail=event.detail,
        windows=event.windows,
        gap_indexes=event.gap_indexes,
        media_duration_us=event.media_duration_us,
        offered_us=event.offered_us,
        segments=event.segments,
        excluded_us=event.excluded_us,
    )


def _selection(event: events.SelectionClosed) -> Selection:
    return Selection(
        final=tuple((final.highlight_id, final.revision) for final in event.final),
        windows_analysed=event.windows_analysed,
        windows_skipped=event.windows_skipped,
        windows_failed=event.windows_failed,
        failure_reason=event.failure_reason,
        revision=event.revision,
    )
