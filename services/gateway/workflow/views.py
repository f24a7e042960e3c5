"""The public objects of one organization, read from what the pipeline has told so far."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.domain.completion import RunFacts
from gateway.domain.page import Page, PageRequest
from gateway.domain.public_views import (
    ClipRecord,
    HighlightRecord,
    PublicHighlight,
    PublicStream,
    public_stream,
)
from gateway.domain.stream_status import StreamRecord
from gateway.domain.submission import NewStream
from gateway.workflow.public_events import Links, PlaybackLinks, highlight_view
from gateway.workflow.reads import Reader
from shared.ids import HighlightId, OrganizationId, StreamId

LINK_EXPIRES_S = 3600
Clips = tuple[ClipRecord, ...]


class ViewTables(Protocol):
    """One transaction of one organization, which only reads."""

    async def stream_record(self, stream_id: StreamId) -> StreamRecord | None: ...
    async def stream_page(self, page: PageRequest, *, external_id: str | None = None) -> Page[StreamRecord]:
        """Newest first."""
        ...

    async def facts_of(self, stream_ids: Sequence[StreamId]) -> Mapping[StreamId, RunFacts]:
        """What is known of each stream's current run; nothing known may be left out."""
        ...

    async def highlight_record(self, highlight_id: HighlightId) -> HighlightRecord | None:
        """None also for a highlight that was retracted."""
        ...

    async def highlight_page(self, stream_id: StreamId, page: PageRequest) -> Page[HighlightRecord]:
        """In the order of the stream, without retracted ones."""
        ...

    async def clips_of(self, highlight_ids: Sequence[HighlightId]) -> Clips: ...


class Views:
    def __init__(
        self,
        *,
        read: Reader[ViewTables],
        links: Links,
        playback: PlaybackLinks,
        expires_s: int = LINK_EXPIRES_S,
    ) -> None:
        self._read = read
        self._links = links
        self._playback = playback
        self._expires_s = expires_s

    def of_new(self, stream: NewStream) -> PublicStream:
        """A stream to which nothing has happened yet."""
        return public_stream(_record(stream), RunFacts())

    async def stream(self, organization_id: OrganizationId, stream_id: StreamId) -> PublicStream | None:
        async def look(tables: ViewTables) -> PublicStream | None:
            record = await tables.stream_record(stream_id)
            facts = await tables.facts_of([stream_id]) if record else {}
            return public_stream(record, facts.get(stream_id, RunFacts())) if record else None

        return await self._read(organization_id, look)

    async def streams(
        self, organization_id: OrganizationId, page: PageRequest, *, external_id: str | None = None
    ) -> Page[PublicStream]:
        """All of them, or those with this id elsewhere."""

        async def look(tables: ViewTables) -> tuple[Page[StreamRecord], Mapping[StreamId, RunFacts]]:
            found = await tables.stream_page(page, external_id=external_id)
            return found, await tables.facts_of([record.stream_id for record in found.items])

        found, facts = await self._read(organization_id, look)
        shown = [public_stream(record, facts.get(record.stream_id, RunFacts())) for record in found.items]
        return Page(tuple(shown), found.total, page)

    async def highlights(
        self, organization_id: OrganizationId, stream_id: StreamId, page: PageRequest
    ) -> Page[PublicHighlight] | None:
        """None when there is no such stream."""

        async def look(tables: ViewTables) -> tuple[StreamRecord, Page[HighlightRecord], Clips] | None:
            stream = await tables.stream_record(stream_id)
            if stream is None:
                return None
            found = await tables.highlight_page(stream_id, page)
            return stream, found, await tables.clips_of([record.highlight_id for record in found.items])

        read = await self._read(organization_id, look)
        if read is None:
            return None
        stream, found, clips = read
        shown = [await self._shown(stream, record, clips) for record in found.items]
        return Page(tuple(shown), found.total, page)

    async def highlight(
        self, organization_id: OrganizationId, highlight_id: HighlightId
    ) -> PublicHighlight | None:
        async def look(tables: ViewTables) -> tuple[StreamRecord, HighlightRecord, Clips] | None:
            record = await tables.highlight_record(highlight_id)
            stream = await tables.stream_record(record.stream_id) if record else None
            if record is None or stream is None:
                return None
            return stream, record, await tables.clips_of([highlight_id])

        read = await self._read(organization_id, look)
        return await self._shown(*read) if read else None

    async def _shown(
        self, stream: StreamRecord, record: HighlightRecord, clips: Sequence[ClipRecord]
    ) -> PublicHighlight:
        own = [clip for clip in clips if clip.highlight_id == record.highlight_id]
        return await highlight_view(
            stream,
            record,
            own,
            links=self._links,
            playback=self._playback,
            expires_s=self._expires_s,
        )


def _record(stream: NewStream) -> StreamRecord:
    return StreamRecord(
        stream_id=stream.stream_id,
        organization_id=stream.organization_id,
        lane=stream.lane,
        platform=stream.platform,
        display_url=stream.display_url,
        title=stream.title,
        options=stream.options,
        metadata=stream.metadata,
        created_at=stream.created_at,
        updated_at=stream.created_at,
        deadline_at=stream.deadline_at,
        source_started_at=stream.source_started_at,
        external_id=stream.external_id,
        source_kind=stream.source_kind.value,
        source_check=stream.source_check.model_dump(mode="json"),
        channel_name=stream.channel_name,
        game_name=stream.game_name,
    )
