"""Brings streams to their terminal state in the caller's transaction, and tells customers and services.

What the state is, and in which words, is decided in `domain/completion.py`.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal, Protocol

import structlog

from gateway.domain.completion import WATCHDOG, Completion, RunFacts, awaited, decide
from gateway.domain.events_feed import TERMINAL_TYPES, PublicEventType
from gateway.domain.public_views import public_stream
from gateway.domain.stream_status import StreamRecord, StreamStatus, advance, is_terminal
from gateway.workflow.public_events import Feed, PublicEvents, Unit
from shared import metrics
from shared.clock import Clock
from shared.events import Lane, StreamClosed
from shared.ids import StreamId, event_id

log = structlog.get_logger()

ClosedCause = Literal["stopped", "suspended", "watchdog", "completed"]


class Store(Feed, Protocol):
    """What completion reads and writes of one tenant, in the caller's transaction."""

    async def facts_of(self, stream: StreamRecord) -> RunFacts: ...

    async def begin(self, stream_id: StreamId, *, at: datetime) -> StreamRecord:
        """Move a pending stream to processing."""
        ...

    async def finish(
        self, stream_id: StreamId, completion: Completion, *, at: datetime, status: StreamStatus
    ) -> StreamRecord:
        """Write the outcome; the time of completion is kept where there is one."""
        ...


@dataclass(frozen=True)
class Completer:
    """Finishes streams when nothing is awaited any more."""

    public_events: PublicEvents
    clock: Clock

    async def review(self, stream: StreamRecord, *, store: Store, unit: Unit) -> StreamRecord:
        """Finish the stream if it can be; repair the words of a completed one; else leave it as it is."""
        if is_terminal(stream.status):
            return await self._repair(stream, store=store, unit=unit)
        facts = await store.facts_of(stream)
        completion = decide(stream, facts)
        if completion is None:
            log.debug("stream_awaits", what=[entry.text for entry in awaited(stream, facts)])
            return stream
        return await self.finish(stream, completion, facts=facts, closed="completed", store=store, unit=unit)

    async def begin(self, stream: StreamRecord, *, store: Store, unit: Unit) -> StreamRecord:
        """Media flows: move a pending stream to processing, and say so once."""
        begun = await store.begin(stream.stream_id, at=self.clock())
        facts = await store.facts_of(begun)
        return await self._tell(begun, PublicEventType.STREAM_STARTED, facts, store=store, unit=unit)

    async def finish(
        self,
        stream: StreamRecord,
        completion: Completion,
        *,
        facts: RunFacts,
        closed: ClosedCause,
        store: Store,
        unit: Unit,
    ) -> StreamRecord:
        """Write the outcome, tell customers last of all, and close the stream for every service."""
        status = advance(stream.status, completion.status)
        if status is stream.status:
            log.warning("transition_refused", status=stream.status, wanted=completion.status)
            return stream
        ended = await store.finish(stream.stream_id, completion, at=self.clock(), status=status)
        ended = await self._tell(ended, TERMINAL_TYPES[status], facts, store=store, unit=unit)
        await unit.emit(self._closed(ended, "stopped" if status is StreamStatus.CANCELLED else closed))
        metrics.streams_finished.labels(status, completion.cause or "").inc()
        log.info("stream_finished", status=status, partial=completion.partial, cause=completion.cause)
        return ended

    async def _repair(self, stream: StreamRecord, *, store: Store, unit: Unit) -> StreamRecord:
        """What comes after the end changes words and coverage of a completed stream, never its status.

        The same state is told once, however often it is looked at.
        """
        if stream.status is not StreamStatus.COMPLETED or stream.cause == WATCHDOG:
            return stream
        facts = await store.facts_of(stream)
        completion = decide(stream, facts)
        if completion is None or not _is_news(stream, completion, facts):
            return stream
        repaired = await store.finish(
            stream.stream_id, completion, at=self.clock(), status=StreamStatus.COMPLETED
        )
        mark = sha256(repr(_state(completion, facts)).encode()).hexdigest()
        return await self._tell(
            repaired, PublicEventType.STREAM_UPDATED, facts, mark=mark, store=store, unit=unit
        )

    async def _tell(
        self,
        stream: StreamRecord,
        kind: PublicEventType,
        facts: RunFacts,
        *,
        mark: str = "",
        store: Store,
        unit: Unit,
    ) -> StreamRecord:
        content = public_stream(stream, facts).model_dump(mode="json")
        parts = (stream.run, mark) if mark else (stream.run,)
        return await self.public_events.mint(
            stream, kind, parts=parts, content=content, feed=store, unit=unit
        )

    def _closed(self, stream: StreamRecord, cause: ClosedCause) -> StreamClosed:
        return StreamClosed(
            event_id=event_id(stream.stream_id, StreamClosed.name, stream.run),
            organization_id=stream.organization_id,
            stream_id=stream.stream_id,
            occurred_at=self.clock(),
            lane=Lane(stream.lane),
            cause=cause,
            detail=stream.error or "",
        )


def _is_news(stream: StreamRecord, completion: Completion, facts: RunFacts) -> bool:
    return facts.repair_windows > 0 or _words(completion) != (stream.partial, stream.cause, stream.error)


def _state(completion: Completion, facts: RunFacts) -> tuple[object, ...]:
    """What tells one state of a completed stream from another: the words, and how far it is repaired."""
    repaired = (facts.gaps, facts.gaps_us, facts.repair_windows) if facts.repair_windows else ()
    return (*_words(completion), *repaired)


def _words(completion: Completion) -> tuple[bool, str | None, str | None]:
    return completion.partial, completion.cause, completion.error
