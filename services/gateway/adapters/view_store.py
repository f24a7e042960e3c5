"""Reads what the API shows: pages of streams and highlights, with the facts and clips that belong to them."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select

from gateway.adapters import tables as t
from gateway.adapters.projection_store import (
    CLIP_COLUMNS,
    HIGHLIGHT_COLUMNS,
    STREAM_COLUMNS,
    clip_record,
    highlight_record,
    run_facts,
    stream_record,
)
from gateway.adapters.transactions import Tables
from gateway.domain.completion import RunFacts
from gateway.domain.page import Page, PageRequest
from gateway.domain.public_views import ClipRecord, HighlightRecord
from gateway.domain.stream_status import StreamRecord
from gateway.workflow.playback import PlayableHighlight
from shared.events import SegmentRef
from shared.ids import HighlightId, StreamId

_STREAM = t.streams.c
_HIGHLIGHT = t.highlights.c


class ViewRows(Tables):
    async def stream_record(self, stream_id: StreamId) -> StreamRecord | None:
        row = (await self._execute(select(*STREAM_COLUMNS).where(_STREAM.stream_id == stream_id))).first()
        return stream_record(row) if row else None

    async def stream_page(self, page: PageRequest, *, external_id: str | None = None) -> Page[StreamRecord]:
        own = _STREAM.organization_id == self._organization_id
        if external_id is not None:
            own &= _STREAM.external_id == external_id
        total = (await self._execute(select(func.count()).select_from(t.streams).where(own))).scalar_one()
        statement = (
            select(*STREAM_COLUMNS)
            .where(own)
            .order_by(_STREAM.created_at.desc(), _STREAM.stream_id)
            .limit(page.per_page)
            .offset(page.offset)
        )
        rows = (await self._execute(statement)).all()
        return Page(tuple(map(stream_record, rows)), total, page)

    async def facts_of(self, stream_ids: Sequence[StreamId]) -> Mapping[StreamId, RunFacts]:
        return await run_facts(self._session, stream_ids) if stream_ids else {}

    async def highlight_record(self, highlight_id: HighlightId) -> HighlightRecord | None:
        statement = select(*HIGHLIGHT_COLUMNS).where(
            _HIGHLIGHT.highlight_id == highlight_id, ~_HIGHLIGHT.retracted
        )
        row = (await self._execute(statement)).first()
        return highlight_record(row) if row else None

    async def playable(self, highlight_id: HighlightId) -> PlayableHighlight | None:
        statement = select(_HIGHLIGHT.start_us, _HIGHLIGHT.end_us, _HIGHLIGHT.segments).where(
            _HIGHLIGHT.highlight_id == highlight_id, ~_HIGHLIGHT.retracted
        )
        row = (await self._execute(statement)).first()
        if row is None:
            return None
        segments = tuple(SegmentRef.model_validate(stored) for stored in row.segments)
        return PlayableHighlight(start_us=row.start_us, end_us=row.end_us, segments=segments)

    async def highlight_page(self, stream_id: StreamId, page: PageRequest) -> Page[HighlightRecord]:
        shown = (_HIGHLIGHT.stream_id == stream_id, ~_HIGHLIGHT.retracted)
        total = (
            await self._execute(select(func.count()).select_from(t.highlights).where(*shown))
        ).scalar_one()
        statement = (
            select(*HIGHLIGHT_COLUMNS)
            .where(*shown)
            .order_by(_HIGHLIGHT.start_us, _HIGHLIGHT.highlight_id)
            .limit(page.per_page)
            .offset(page.offset)
        )
        rows = (await self._execute(statement)).all()
        return Page(tuple(map(highlight_record, rows)), total, page)

    async def clips_of(self, highlight_ids: Sequence[HighlightId]) -> tuple[ClipRecord, ...]:
        if not highlight_ids:
            return ()
        statement = select(*CLIP_COLUMNS).where(t.clips.c.highlight_id.in_(highlight_ids))
        return tuple(map(clip_record, (await self._execute(statement)).all()))
