"""Failed streams that are run once more, in PostgreSQL."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select, update

from gateway.adapters import tables as t
from gateway.adapters.transactions import Tables
from gateway.domain.reachability import NOT_CHECKED, SourceCheck
from gateway.domain.source import SourceKind
from gateway.domain.stream_status import StreamStatus
from gateway.domain.submission import NewStream
from gateway.workflow.retries import EndedStream
from shared.events import Lane
from shared.ids import ConnectionId, OrganizationId, StreamId

_STREAM = t.streams.c
# What a run leaves in its stream's row.
_AS_NEW: dict[str, Any] = {
    "status": StreamStatus.PENDING.value,
    "partial": False,
    "offered_us": 0,
    "media_duration_us": 0,
    "source_failed": False,
    **dict.fromkeys(("cause", "error", "started_at", "ended_at", "completed_at", "stop_requested_at")),
    **dict.fromkeys(("ended", "selection", "source_end")),
}


class RetryRows(Tables):
    async def find_ended(self, stream_id: StreamId) -> EndedStream | None:
        statement = select(t.streams).where(_STREAM.stream_id == stream_id).with_for_update()
        row = (await self._execute(statement)).first()
        return _ended(row) if row else None

    async def begin_anew(self, stream_id: StreamId, *, run: int, at: datetime, deadline_at: datetime) -> None:
        changes = _AS_NEW | {"run": run, "updated_at": at, "deadline_at": deadline_at}
        await self._execute(update(t.streams).where(_STREAM.stream_id == stream_id).values(changes))
        await self._execute(delete(t.parked).where(t.parked.c.stream_id == stream_id))


def _ended(row: Row[Any]) -> EndedStream:
    return EndedStream(
        stream=_as_accepted(row),
        status=StreamStatus(row.status),
        partial=row.partial,
        cause=row.cause,
        run=row.run,
    )


def _as_accepted(row: Row[Any]) -> NewStream:
    return NewStream(
        stream_id=StreamId(row.stream_id),
        organization_id=OrganizationId(row.organization_id),
        lane=Lane(row.lane),
        platform=row.platform,
        sealed_source_url=row.sealed_source_url,
        display_url=row.display_url,
        sealed_headers=row.sealed_headers,
        title=row.title,
        options=row.options,
        metadata=row._mapping["metadata"],
        profile_key=row.profile_key,
        created_at=row.created_at,
        deadline_at=row.deadline_at,
        connection_id=ConnectionId(row.connection_id) if row.connection_id else None,
        external_id=row.external_id,
        source_started_at=row.source_started_at,
        source_kind=SourceKind(row.source_kind),
        source_check=SourceCheck.model_validate(row.source_check) if row.source_check else NOT_CHECKED,
        channel_name=row.channel_name,
        game_name=row.game_name,
    )
