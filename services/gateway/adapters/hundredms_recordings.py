"""Recordings of 100ms in PostgreSQL, and their chats by HTTP."""

from typing import Any

from sqlalchemy import case, func, null, select, text, update

from gateway.adapters import tables as t
from gateway.adapters.hundredms import HundredmsRows
from gateway.domain.stream_status import TERMINAL
from gateway.workflow.hundredms_recordings import (
    ChatNotThere,
    DueRecording,
    DueRecordings,
    Progress,
    RecordedStream,
    StoredRecording,
)
from shared.database import Database
from shared.events import Lane
from shared.http_client import Limits, SafeHttpClient
from shared.ids import ConnectionId, StreamId

CHAT_LIMITS = Limits(max_bytes=16 * 1024 * 1024, total_s=30.0)
_CLAIM = text("SELECT * FROM claim_hundredms_recordings(:at_most, :lease_s)")
_RECORDING, _TOLD, _STREAM = t.hundredms_recordings.c, t.hundredms_streams.c, t.streams.c
_STORED = (
    _RECORDING.sealed_details,
    _RECORDING.beam_id,
    _RECORDING.received_at,
    _RECORDING.attempts,
    _RECORDING.offered_at,
    _RECORDING.chat_messages,
    _RECORDING.chat_done_at,
)


class RecordingRows(HundredmsRows):
    async def recording(self, due: DueRecording) -> StoredRecording | None:
        row = (await self._execute(select(*_STORED).where(*_this(due)))).first()
        return StoredRecording(**row._mapping) if row else None

    async def recorded_stream(self, connection_id: ConnectionId, *, beam_id: str) -> RecordedStream | None:
        place = await self.find_beam(connection_id, beam_id)
        if place is None:
            return None
        options = await self._execute(select(_STREAM.options).where(_STREAM.stream_id == place.stream_id))
        return RecordedStream(
            stream_id=StreamId(place.stream_id),
            run=place.run,
            lane=Lane(place.lane),
            is_over=place.status in TERMINAL,
            include_chat=bool(options.scalar_one().get("include_chat", True)),
        )

    async def api_credentials(self, connection_id: ConnectionId) -> str | None:
        found = t.hundredms_connections.c
        statement = select(found.sealed_api_credentials).where(
            found.connection_id == connection_id, found.disabled_at.is_(None)
        )
        sealed = (await self._execute(statement)).scalar_one_or_none()
        return None if sealed is None else str(sealed)

    async def note_recording(self, due: DueRecording, progress: Progress, *, again_in_s: float) -> None:
        values: dict[str, Any] = {
            name: value
            for name in ("offered_at", "chat_messages", "chat_done_at", "note", "attempts")
            if (value := getattr(progress, name)) is not None
        }
        if values:
            await self._execute(update(t.hundredms_recordings).where(*_this(due)).values(values))
        is_done = _RECORDING.offered_at.is_not(None) & _RECORDING.chat_done_at.is_not(None)
        again_at = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, again_in_s)
        await self._execute(
            update(t.hundredms_recordings)
            .where(*_this(due))
            .values(due_at=case((is_done, null()), else_=again_at))
        )


class HttpChats:
    def __init__(self, client: SafeHttpClient) -> None:
        self._client = client

    async def fetch(self, url: str) -> bytes:
        answer = await self._client.get(url, limits=CHAT_LIMITS)
        if answer.status != 200:
            raise ChatNotThere(f"the address of the chat answered {answer.status}")
        return answer.body


def due_recordings(database: Database) -> DueRecordings:
    """The look across tenants; the rows that it gives are taken until the lease is over."""

    async def due(*, at_most: int, lease_s: float) -> tuple[DueRecording, ...]:
        async with database.transaction() as session:
            connection = await session.connection()
            rows = await connection.execute(_CLAIM, {"at_most": at_most, "lease_s": lease_s})
            return tuple(DueRecording(**row) for row in rows.mappings())

    return due


def _this(due: DueRecording) -> tuple[Any, ...]:
    return (_RECORDING.connection_id == due.connection_id, _RECORDING.recording_id == due.recording_id)
