"""100ms: what an admitted webhook causes, in the transaction that also records it.

Who is admitted stands in `hundredms_gate`, what happens while PostgreSQL is away in `hundredms_reception`, what the
API tells in `hundredms_reconciliation`, and what becomes of recordings in `hundredms_recordings`.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from json import dumps
from typing import Protocol

import structlog

from gateway.domain.hundredms_connection import Connection, Webhook
from gateway.domain.hundredms_payload import Action, HundredmsEvent, parse_body, read_event
from gateway.domain.hundredms_reconciliation import claimed
from gateway.domain.hundredms_recording import Recording
from gateway.domain.hundredms_sighting import KnownStream, Sighting
from gateway.domain.refusals import Refused
from gateway.domain.source import Platform
from gateway.domain.stream_options import StreamOptions
from gateway.domain.submission import NewStream, StreamPlace, stream_offline
from gateway.workflow.intake import Intake, IntakeTables, StreamRequest
from shared import metrics
from shared.ids import ConnectionId, OrganizationId, StreamId
from shared.keyring import Keyring

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class ReceivedEvent:
    """One row of what 100ms told, with the payload as it came, sealed: its addresses may hold signatures."""

    connection: Connection
    event: HundredmsEvent
    sealed_payload: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class SourceEnd:
    """How a stream ended at 100ms: when by its clock, why in its words, and whether that was a failure."""

    stopped_at: datetime | None
    words: str
    failed: bool


class LiveStreamTables(IntakeTables, Protocol):
    """What webhooks and the API need to agree on one stream, in one transaction of one organization."""

    async def lock_room(self, room_id: str) -> None:
        """Let what is told of one room be judged one after the other, whoever tells it, and by any connection."""
        ...

    async def known(
        self, connection_id: ConnectionId, *, room_id: str | None = None
    ) -> tuple[KnownStream, ...]:
        """Streams that run, and those that did not long ago; of one room, or of all, of any connection."""
        ...

    async def know(self, connection_id: ConnectionId, stream_id: StreamId, sighting: Sighting) -> None:
        """Write down what tells a new stream from all others."""
        ...

    async def place(self, stream_id: StreamId) -> StreamPlace | None:
        """The stream, locked until the transaction ends."""
        ...

    async def end_at_source(self, place: StreamPlace, end: SourceEnd, *, at: datetime) -> None:
        """Note the stop of a stream that runs, once, and the first end that says something."""
        ...


class HundredmsTables(LiveStreamTables, Protocol):
    """One transaction of one organization."""

    async def record(self, received: ReceivedEvent) -> bool:
        """False when this very event was recorded before."""
        ...

    async def note(self, received: ReceivedEvent, note: str) -> None:
        """What was done about the event."""
        ...

    async def stop_of(self, connection_id: ConnectionId, beam_id: str) -> str | None:
        """The reason of a stop that came before its start."""
        ...

    async def bury(self, received: ReceivedEvent, *, beam_id: str) -> None:
        """Remember a stop whose start has not come."""
        ...

    async def lock_beam(self, beam_id: str) -> None:
        """Let a start and a stop of the same beam happen one after the other."""
        ...

    async def find_beam(self, connection_id: ConnectionId, beam_id: str) -> StreamPlace | None: ...
    async def claim(self, stream_id: StreamId, *, beam_id: str) -> None:
        """A stream that the API started is of this beam."""
        ...

    async def add_recording(self, received: ReceivedEvent, recording_id: str, *, sealed_details: str) -> bool:
        """False when this recording was told before."""
        ...


OpenHundredms = Callable[[OrganizationId], AbstractAsyncContextManager[HundredmsTables]]


class Hundredms:
    def __init__(self, *, open_hundredms: OpenHundredms, intake: Intake, keyring: Keyring) -> None:
        self._open = open_hundredms
        self._intake = intake
        self._keyring = keyring

    async def receive(self, connection: Connection, webhook: Webhook) -> None:
        """Record one webhook and do what it asks for; a second copy changes nothing. Raises Malformed."""
        received = self._read(connection, webhook)
        stream = await self._prepared(received)
        async with self._open(connection.organization_id) as tables:
            if not await tables.record(received):
                outcome = "duplicate"
            else:
                outcome = await self._handle(tables, received, stream)
                await tables.note(received, outcome)
        metrics.hundredms_webhooks.labels(received.event.action, outcome.partition(":")[0]).inc()
        log.info("hundredms_webhook", type=received.event.type, outcome=outcome)

    def _read(self, connection: Connection, webhook: Webhook) -> ReceivedEvent:
        payload = parse_body(webhook.body)
        context = connection_context(connection.connection_id)
        return ReceivedEvent(
            connection=connection,
            event=read_event(payload, raw=webhook.body),
            sealed_payload=self._keyring.encrypt(dumps(payload, ensure_ascii=False), context=context),
            received_at=webhook.received_at,
        )

    async def _prepared(self, received: ReceivedEvent) -> NewStream | str | None:
        """The stream that a start announces, or why none can be made of it."""
        event, connection = received.event, received.connection
        if event.action is not Action.START:
            return None
        if event.url is None or event.beam_id is None:
            return "refused: a start without url or room"
        request = StreamRequest(
            source_url=event.url,
            options=StreamOptions.model_validate(connection.options),
            platform=Platform.HUNDREDMS,
            metadata={"room_id": event.room_id, "session_id": event.session_id},
            connection_id=connection.connection_id,
            external_id=event.beam_id,
            source_started_at=event.started_at,
        )
        try:
            return await self._intake.prepare(request, organization_id=connection.organization_id)
        except Refused as refusal:
            return f"refused: {refusal}"

    async def _handle(
        self, tables: HundredmsTables, received: ReceivedEvent, stream: NewStream | str | None
    ) -> str:
        event = received.event
        if isinstance(stream, str):
            return stream
        if stream is not None:
            return await self._start(tables, received, stream)
        if event.action in (Action.STOP, Action.FAIL) and event.beam_id is not None:
            return await self._stop(tables, received, event.beam_id)
        if event.recording is not None and event.beam_id is not None:
            return await self._keep(tables, received, event.recording)
        return "recorded"

    async def _start(self, tables: HundredmsTables, received: ReceivedEvent, stream: NewStream) -> str:
        connection_id, beam_id = received.connection.connection_id, str(stream.external_id)
        await self._lock(tables, received, beam_id)
        stopped = await tables.stop_of(connection_id, beam_id)
        if stopped is not None:
            return f"ignored: stopped before its start ({stopped})"
        if await tables.find_beam(connection_id, beam_id) is not None:
            return "ignored: the beam has a stream"
        joined = await self._claim(tables, received)
        if joined is not None:
            return f"joined: {joined}"
        options = StreamOptions.model_validate(received.connection.options)
        if not await self._intake.write(tables, stream, options=options):
            return "ignored: the beam has a stream"
        await tables.know(connection_id, stream.stream_id, received.event.sighting)
        return f"started: {stream.stream_id}"

    async def _stop(self, tables: HundredmsTables, received: ReceivedEvent, beam_id: str) -> str:
        await self._lock(tables, received, beam_id)
        place = await self._place(tables, received, beam_id)
        if place is None:
            await tables.bury(received, beam_id=beam_id)
            return "buried: the start has not come"
        end = SourceEnd(
            stopped_at=received.event.stopped_at, words=received.event.end, failed=received.event.failed
        )
        await stop_stream(tables, place, end, reason=received.event.reason, at=received.received_at)
        return f"stopped: {place.stream_id}"

    async def _keep(self, tables: HundredmsTables, received: ReceivedEvent, recording: Recording) -> str:
        """Recordings are taken up by a loop, as soon as their stream has ended."""
        if recording.file is None and recording.chat_url is None:
            return "recorded: neither MP4 nor playlist nor chat is offered"
        recording_id = recording.recording_id or f"of {received.event.beam_id}"
        context = connection_context(received.connection.connection_id)
        sealed = self._keyring.encrypt(written_recording(received.event, recording), context=context)
        kept = await tables.add_recording(received, recording_id, sealed_details=sealed)
        return "kept: a recording" if kept else "ignored: the recording is known"

    async def _lock(self, tables: HundredmsTables, received: ReceivedEvent, beam_id: str) -> None:
        """The room first, then the beam: a stop may lack the room of its start."""
        await tables.lock_room(received.event.room_id)
        await tables.lock_beam(beam_id)

    async def _place(
        self, tables: HundredmsTables, received: ReceivedEvent, beam_id: str
    ) -> StreamPlace | None:
        place = await tables.find_beam(received.connection.connection_id, beam_id)
        if place is None:
            joined = await self._claim(tables, received)
            place = None if joined is None else await tables.place(joined)
        return place

    async def _claim(self, tables: HundredmsTables, received: ReceivedEvent) -> StreamId | None:
        """The stream that the API started for this beam, whose webhook was late or lost."""
        event = received.event
        known = await tables.known(received.connection.connection_id, room_id=event.room_id)
        match = claimed(event.sighting, known)
        if match is None:
            return None
        await tables.claim(match.stream_id, beam_id=event.sighting.beam_id)
        return match.stream_id


async def stop_stream(
    tables: LiveStreamTables, place: StreamPlace, end: SourceEnd, *, reason: str, at: datetime
) -> None:
    """Let a stream of 100ms drain and end, whoever told of it."""
    await tables.end_at_source(place, end, at=at)
    await tables.emit(stream_offline(place, reason=f"100ms: {reason}", at=at))


def written_recording(event: HundredmsEvent, recording: Recording) -> str:
    """What `read_written` reads back: the stream that it belongs to, and its addresses."""
    return dumps({"sighting": asdict(event.sighting), "recording": asdict(recording)}, default=str)


def connection_context(connection_id: ConnectionId) -> str:
    """What the payloads and the secrets of a connection are sealed for."""
    return f"connection:{connection_id}"
