"""Reads a stream's timeline and its signals for one organization."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.domain.completion import RunFacts
from gateway.domain.refusals import NotFound, Unacceptable
from gateway.domain.signals import SignalPage, SignalRows, signal_page
from gateway.domain.stream_status import StreamRecord
from gateway.domain.timeline import PublicTimeline, TimelineRows, public_timeline
from gateway.workflow.authentication import Caller
from gateway.workflow.reads import Reader
from shared.ids import StreamId

MAX_ROWS = 2000


class TimelineTables(Protocol):
    """One transaction of one organization, which only reads."""

    async def stream_record(self, stream_id: StreamId) -> StreamRecord | None: ...

    async def facts_of(self, stream_ids: Sequence[StreamId]) -> Mapping[StreamId, RunFacts]: ...

    async def timeline_rows(
        self, stream: StreamRecord, *, from_us: int, to_us: int | None, most: int
    ) -> TimelineRows:
        """Rows of the stream's run that share time with the span, at most so many of each kind."""
        ...

    async def signals(
        self, stream_id: StreamId, *, kind: str | None, after: int, most: int
    ) -> SignalRows: ...


class Timelines:
    def __init__(self, *, read: Reader[TimelineTables], max_rows: int = MAX_ROWS) -> None:
        self._read = read
        self._max_rows = max_rows

    async def timeline(
        self, caller: Caller, stream_id: StreamId, *, from_us: int, to_us: int | None
    ) -> PublicTimeline:
        """Raises NotFound, and Unacceptable where the span is reversed."""
        if to_us is not None and to_us <= from_us:
            raise Unacceptable("`to` must be after `from`", field="to")

        async def look(tables: TimelineTables) -> PublicTimeline | None:
            stream = await tables.stream_record(stream_id)
            if stream is None:
                return None
            facts = await tables.facts_of([stream_id])
            rows = await tables.timeline_rows(stream, from_us=from_us, to_us=to_us, most=self._max_rows)
            return public_timeline(
                stream, facts.get(stream_id, RunFacts()), rows, from_us=from_us, to_us=to_us
            )

        return _found(await self._read(caller.organization_id, look))

    async def signals(
        self, caller: Caller, stream_id: StreamId, *, kind: str | None, after: int, most: int
    ) -> SignalPage:
        """Raises NotFound."""

        async def look(tables: TimelineTables) -> SignalRows | None:
            if await tables.stream_record(stream_id) is None:
                return None
            return await tables.signals(stream_id, kind=kind, after=after, most=most)

        rows = await self._read(caller.organization_id, look)
        if rows is None:
            raise NotFound("Stream not found")
        return signal_page(rows)


def _found(timeline: PublicTimeline | None) -> PublicTimeline:
    if timeline is None:
        raise NotFound("Stream not found")
    return timeline
